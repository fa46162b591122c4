"""Validation of the settings of updates and rollbacks. PURE."""

from collections.abc import Iterable

from pyswarm_core.specs import FailureAction, ServiceSpec, UpdateConfig
from pyswarm_core.validation.problem import Problem
from pyswarm_core.validation.ranges import range_problems


def update_problems(spec: ServiceSpec) -> Iterable[Problem]:
    """The problems of both configurations."""
    yield from _config_problems("--update", spec.update_config)
    yield from _config_problems("--rollback", spec.rollback_config)
    if spec.rollback_config.failure_action is FailureAction.ROLLBACK:
        action = FailureAction.ROLLBACK.value
        yield Problem("--rollback-failure-action", action, "expected pause or continue")


def _config_problems(prefix: str, config: UpdateConfig) -> Iterable[Problem]:
    yield from range_problems(f"{prefix}-parallelism", config.parallelism)
    yield from range_problems(f"{prefix}-delay", config.delay)
    yield from range_problems(f"{prefix}-monitor", config.monitor)
    yield from range_problems(f"{prefix}-max-failure-ratio", config.max_failure_ratio)
