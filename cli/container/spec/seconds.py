"""Times in whole seconds, as `--stop-timeout` and `--timeout` have them. PURE."""

from pyswarm_core.clock import SECOND
from pyswarm_core.docker.units import parse_integer
from pyswarm_core.errors import InvalidArgument, invalid
from pyswarm_core.validation.ranges import DURATION_MAX


def seconds(flag: str, text: str) -> int:
    """Nanoseconds of whole seconds; -1 is for ever in Docker, here the longest duration.

    Raises InvalidArgument.
    """
    expected = f"expected -1, or 0 to {DURATION_MAX // SECOND}"
    try:
        number = parse_integer(text)
    except InvalidArgument:
        raise invalid(flag, text, expected) from None
    if not -1 <= number <= DURATION_MAX // SECOND:
        raise invalid(flag, text, expected)
    return DURATION_MAX if number < 0 else number * SECOND
