"""What is checked, how a check ended, and the interfaces around checks. PURE: values and
protocols.
"""

from typing import Protocol

import msgspec

from pyswarm_core.clock import Instant
from pyswarm_core.ids import TaskId
from pyswarm_core.specs import HealthConfig


class Target(msgspec.Struct, frozen=True):
    """The task to check. `pid` is a process in its namespaces, `address` its first own one."""

    task_id: TaskId
    pid: int
    address: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """How a check ended. Exit code 0 is success, a negative one a check without a result."""

    exit_code: int
    output: str
    counts: bool = True
    """False: the agent lacked a resource, which says nothing about the task."""


class Due(msgspec.Struct, frozen=True):
    """A check that is to be made at an instant."""

    at: Instant
    config: HealthConfig
    target: Target
    tolerance: int = 0
    """It may be made so much later, so that checks of several tasks are made together."""


class Probe(Protocol):
    """Makes one check; raises nothing."""

    async def __call__(self, target: Target, config: HealthConfig) -> Outcome:
        """The outcome, within the check's timeout."""
        ...


class CheckObserver(Protocol):
    """Observes results of checks, for metrics."""

    def checked(self, kind: str, outcome: Outcome, duration_s: float) -> None:
        """A check of this kind (the first word of its test) was made and took this long."""
        ...
