"""The state of one check: when it is due, and what its results mean. PURE.

The rules are Docker's (moby, daemon/health.go). A success makes a task healthy. `retries` failures
in a row make it unhealthy; until the first success, those that began within the start period do not
count. A check is due `interval` after the last one ended, or after the start; within the start
period and until the first success, `start_interval` after.

Checks of many tasks that became due while no agent ran are spread by the tasks' ids.
"""

import zlib
from enum import StrEnum

from msgspec.structs import replace

from pyswarm_core.clock import MILLISECOND, SECOND, Instant, after
from pyswarm_core.ids import TaskId
from pyswarm_core.limits import CHECK_RESULTS
from pyswarm_core.model import Model
from pyswarm_core.objects import HealthState
from pyswarm_core.specs import HealthConfig
from pyswarm_core.views import CheckResult

_PARTS = 1_000
_SPREAD_SHARE = 10
_SPREAD_MAX = 5 * SECOND
"""Overdue checks are spread over a tenth of their interval, and at most this long."""
_TOLERANCE_SHARE = 20
_TOLERANCE_MAX = 250 * MILLISECOND
"""A connection is made at most this later than due, and at most a twentieth of the interval."""


class CheckKind(StrEnum):
    """The checks that a task may have."""

    HEALTH = "health"
    READINESS = "readiness"


class Check(Model, frozen=True):
    """One check of a task whose process runs, or is to run."""

    config: HealthConfig
    """All fields are set: see `effective`."""
    state: HealthState = HealthState.STARTING
    failing_streak: int = 0
    due_at: Instant = Instant(0)
    """0: the process does not run yet."""
    results: tuple[CheckResult, ...] = ()
    """The last CHECK_RESULTS, oldest first."""
    made: int = 0
    """Results so far; of two versions of a check, the one with more is the newer."""

    @property
    def last_output(self) -> str:
        """What the last check wrote; empty before the first."""
        return self.results[-1].output if self.results else ""


def begun(check: Check, started_at: Instant) -> Check:
    """The check of a task whose process has started."""
    return replace(check, due_at=_next(check, started_at, started_at))


def returned(check: Check, task_id: TaskId, now: Instant) -> Check:
    """The check as a restarted agent finds it."""
    span = min(check.config.interval // _SPREAD_SHARE, _SPREAD_MAX)
    return replace(check, due_at=max(check.due_at, after(now, span * _part(task_id) // _PARTS)))


def bounded(check: Check, now: Instant) -> Check:
    """The check, due no later than it would be after a check that ends now: the clock may have been
    set back.
    """
    latest = after(now, max(check.config.interval, check.config.start_interval))
    return replace(check, due_at=latest) if check.due_at > latest else check


def is_command(config: HealthConfig) -> bool:
    """Whether the check runs a command in the container; otherwise it makes a connection."""
    return config.test[:1] in (("CMD",), ("CMD-SHELL",))


def tolerance(check: Check) -> int:
    """How much later than due the check may be made. A command is made when it is due."""
    if is_command(check.config):
        return 0
    config = check.config
    starting = check.state is HealthState.STARTING
    period = min(config.interval, config.start_interval) if starting else config.interval
    return min(period // _TOLERANCE_SHARE, _TOLERANCE_MAX)


def judged(check: Check, result: CheckResult, started_at: Instant, *, counts: bool = True) -> Check:
    """The check after a result. `started_at`: when the task's process started. A result that does
    not count is kept, but changes neither state nor streak.
    """
    config = check.config
    state, streak = check.state, check.failing_streak
    within_start = _is_within(result.started_at - started_at, config)
    if not counts:
        pass
    elif result.exit_code == 0:
        state, streak = HealthState.HEALTHY, 0
    elif state is not HealthState.STARTING or not within_start:
        streak += 1
        if streak >= config.retries:
            state = HealthState.UNHEALTHY
    results = (*check.results, result)[-CHECK_RESULTS:]
    taken = replace(check, state=state, failing_streak=streak, results=results, made=check.made + 1)
    ended = after(result.started_at, result.duration)
    return replace(taken, due_at=_next(taken, ended, started_at))


def _next(check: Check, ended: Instant, started_at: Instant) -> Instant:
    within_start = _is_within(ended - started_at, check.config)
    starting = within_start and check.state is HealthState.STARTING
    return after(ended, check.config.start_interval if starting else check.config.interval)


def _is_within(elapsed: int, config: HealthConfig) -> bool:
    """Whether so long after its start a task is within the start period. A negative time is not:
    the clock was set back, and failures have to count.
    """
    return 0 <= elapsed < config.start_period


def _part(task_id: TaskId) -> int:
    """A number below _PARTS that differs between tasks."""
    return zlib.crc32(task_id.encode()) % _PARTS
