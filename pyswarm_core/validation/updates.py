"""Validation of the settings of updates and rollbacks. PURE."""

from collections.abc import Iterable

from pyswarm_core.limits import REPLICAS_MAX
from pyswarm_core.specs import FailureAction, ServiceSpec, UpdateConfig
from pyswarm_core.validation.durations import duration_problems
from pyswarm_core.validation.problem import Problem, within


def update_problems(spec: ServiceSpec) -> Iterable[Problem]:
    """The problems of both configurations."""
    yield from _config_problems("--update", spec.update_config)
    yield from _config_problems("--rollback", spec.rollback_config)
    if spec.rollback_config.failure_action is FailureAction.ROLLBACK:
        action = FailureAction.ROLLBACK.value
        yield Problem("--rollback-failure-action", action, "expected pause or continue")


def _config_problems(prefix: str, config: UpdateConfig) -> Iterable[Problem]:
    yield from within(f"{prefix}-parallelism", config.parallelism, 0, REPLICAS_MAX)
    yield from duration_problems(f"{prefix}-delay", config.delay)
    yield from duration_problems(f"{prefix}-monitor", config.monitor)
    if not 0 <= config.max_failure_ratio <= 1:
        yield Problem(f"{prefix}-max-failure-ratio", config.max_failure_ratio, "expected 0 to 1")
