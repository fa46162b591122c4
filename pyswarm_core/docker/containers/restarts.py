"""`--restart` of containers, and `restart` of Compose's services. PURE."""

from pyswarm_core.clock import MILLISECOND, MINUTE
from pyswarm_core.errors import invalid
from pyswarm_core.specs import RestartCondition, RestartPolicy
from pyswarm_core.validation.ranges import RANGES

DELAY = 100 * MILLISECOND
"""Docker's first delay, which doubles with every restart in a row."""
DELAY_MAX = MINUTE
"""Docker's longest delay."""
_CONDITIONS = {
    "no": RestartCondition.NONE,
    "on-failure": RestartCondition.ON_FAILURE,
    "always": RestartCondition.ANY,
    "unless-stopped": RestartCondition.ANY,
}


def policy(text: str, field: str = "--restart") -> RestartPolicy:
    """The policy of `no`, `on-failure[:MAX]`, `always` or `unless-stopped`. Raises
    InvalidArgument.
    """
    word, colon, count = text.partition(":")
    condition = _CONDITIONS.get(word)
    if condition is None or (colon and condition is not RestartCondition.ON_FAILURE):
        raise invalid(field, text, "expected no, on-failure[:MAX], always or unless-stopped")
    attempts = RANGES["--restart-max-attempts"].read(field, count) if colon else 0
    return RestartPolicy(
        condition=condition, delay=DELAY, max_delay=DELAY_MAX, max_attempts=attempts
    )
