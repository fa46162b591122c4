"""Makes the checks of this host's tasks when they are due, few at once. SHELL.

Level-triggered: the worker sets after every step when a check of a task is due, and each result
goes back to it. A check that is no longer to be made is cancelled, which ends its processes.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from agent.health.base import CheckObserver, Due, Probe
from agent.health.verdict import CheckKind, is_command
from agent.timers import Timers
from pyswarm_core.clock import NEVER, Clock, Instant, seconds
from pyswarm_core.ids import TaskId
from pyswarm_core.limits import CHECKS_AT_ONCE, CONNECTIONS_AT_ONCE
from pyswarm_core.views import CheckResult

Key = tuple[TaskId, CheckKind]
Report = Callable[[TaskId, CheckKind, CheckResult, bool], None]
"""Takes a result, and whether it counts (see `Outcome.counts`)."""


class Checks:
    """The checks of all tasks. Nothing happens unless `run` is running."""

    def __init__(
        self, clock: Clock, probe: Probe, report: Report, observer: CheckObserver | None = None
    ) -> None:
        """`report` is called with each result; it sets when the next check is due."""
        self._clock = clock
        self._probe = probe
        self._report = report
        self._observer = observer
        self._due: dict[Key, Due] = {}
        self._timers: Timers[Key] = Timers(clock)
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._commands = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._connections = asyncio.Semaphore(CONNECTIONS_AT_ONCE)
        self._group: asyncio.TaskGroup | None = None

    def set(self, task_id: TaskId, kind: CheckKind, due: Due | None) -> None:
        """Set when the check is due; None: it is not to be made, and ends if it is running."""
        key = (task_id, kind)
        if due is None:
            self._due.pop(key, None)
            self._timers.set(key, NEVER)
            running = self._running.get(key)
            # Once: a second one would interrupt the end of its processes.
            if running is not None and not running.cancelling():
                running.cancel()
            return
        self._due[key] = due
        if key not in self._running:
            self._timers.set(key, _wake_at(due))

    async def run(self) -> None:
        """Make checks until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            await self._timers.run(self._begin)

    def _begin(self, key: Key) -> None:
        assert self._group is not None
        work = self._running[key] = self._group.create_task(self._make(key, self._due[key]))
        work.add_done_callback(partial(self._ended, key))

    async def _make(self, key: Key, due: Due) -> None:
        async with self._commands if is_command(due.config) else self._connections:
            began = self._clock.now()
            outcome = await self._probe(due.target, due.config)
        duration = max(0, self._clock.now() - began)
        if self._observer:
            self._observer.checked(due.config.test[0], outcome, seconds(duration))
        # Before the report, which sets when the next one is due.
        del self._running[key]
        result = CheckResult(
            started_at=began,
            duration=duration,
            exit_code=outcome.exit_code,
            output=outcome.output,
        )
        self._report(*key, result, outcome.counts)

    def _ended(self, key: Key, work: asyncio.Task[None]) -> None:
        """Forget a check that was cancelled; it may be due again by now."""
        if self._running.get(key) is work:
            del self._running[key]
            if due := self._due.get(key):
                self._timers.set(key, _wake_at(due))


def _wake_at(due: Due) -> Instant:
    """When the check is made: at the next multiple of its tolerance. Checks that are made together
    cost less than half: caches are warm, and the event loop wakes up once.
    """
    grid = due.tolerance
    return Instant(-(-due.at // grid) * grid) if grid else due.at
