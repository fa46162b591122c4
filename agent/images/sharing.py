"""One pull per image, shared by all its callers.

Callers join the pull that is running. It is cancelled with its last caller, and the next caller
waits until it has ended. Invariant: at most one pull runs per key.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable

from agent.images.base import PullProgress, RegistryUnavailable, ReportProgress

Work = Callable[[ReportProgress], Awaitable[None]]


class _Flight:
    """One running pull: its callers, their progress callbacks, and its outcome."""

    def __init__(self, variant: Hashable) -> None:
        self.variant = variant
        self.waiting = 0
        self.leaving = False
        self.listeners: list[ReportProgress] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[Exception | None] | None = None

    def report(self, progress: PullProgress) -> None:
        for listener in self.listeners:
            listener(progress)


class SharedPulls:
    """Runs pulls in a task group; `close` before leaving the group."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._flights: dict[str, _Flight] = {}

    @property
    def running(self) -> bool:
        """Whether a pull runs."""
        return bool(self._flights)

    async def join(
        self, key: str, variant: Hashable, work: Work, progress: ReportProgress | None = None
    ) -> None:
        """Wait for the pull of `key`, starting one if none runs; raises what the pull raises.

        A pull that runs for another `variant` (other credentials) is not shared: this one starts
        after it.
        """
        while (flight := self._flights.get(key)) and (flight.leaving or flight.variant != variant):
            await asyncio.wait([flight.ended])
        if flight is None:
            flight = self._start(key, variant, work)
        await self._wait(flight, progress)

    def close(self) -> None:
        """Cancel all pulls."""
        for flight in self._flights.values():
            self._abandon(flight)

    def _start(self, key: str, variant: Hashable, work: Work) -> _Flight:
        flight = self._flights[key] = _Flight(variant)
        flight.task = self._group.create_task(_outcome(work, flight.report))
        flight.task.add_done_callback(lambda task: self._landed(key, flight, task))
        return flight

    def _landed(self, key: str, flight: _Flight, task: asyncio.Task[Exception | None]) -> None:
        del self._flights[key]
        cancelled = RegistryUnavailable("pull cancelled: the agent is stopping")
        error = cancelled if task.cancelled() else task.result()
        if error is None:
            flight.ended.set_result(None)
        else:
            flight.ended.set_exception(error)
            flight.ended.exception()  # marks it as retrieved: there may be no caller any more

    async def _wait(self, flight: _Flight, progress: ReportProgress | None) -> None:
        flight.waiting += 1
        if progress:
            flight.listeners.append(progress)
        try:
            await asyncio.shield(flight.ended)
        finally:
            flight.waiting -= 1
            if progress:
                flight.listeners.remove(progress)
            if not flight.waiting and not flight.ended.done():
                self._abandon(flight)

    def _abandon(self, flight: _Flight) -> None:
        """Cancel it, once: a second time would interrupt its wait for the end of its program."""
        if flight.task and not flight.leaving:
            flight.task.cancel()
        flight.leaving = True


async def _outcome(work: Work, report: ReportProgress) -> Exception | None:
    """The error for the callers, or None. Raised here, it would cancel the whole group."""
    try:
        await work(report)
    except Exception as error:
        return error
    return None
