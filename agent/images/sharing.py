"""One pull per image, however many ask for it.

Callers join the work that is under way; it is cancelled when the last of them leaves, and the next
one to ask waits until it is gone. Invariant: for one key never two works run at the same time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable

from agent.images.base import PullProgress, RegistryUnavailable, ReportProgress

Work = Callable[[ReportProgress], Awaitable[None]]


class _Flight:
    """One work under way: who it is for, who listens, and how it ended."""

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
    """Runs works in the task group it is given; `close` before leaving the group."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._flights: dict[str, _Flight] = {}

    async def join(
        self, key: str, variant: Hashable, work: Work, progress: ReportProgress | None = None
    ) -> None:
        """Wait for `key`'s work, starting it if none runs; raises what it raises.

        A work under way for another `variant` (other credentials) is waited for, not shared.
        """
        while (flight := self._flights.get(key)) and (flight.leaving or flight.variant != variant):
            await asyncio.wait([flight.ended])
        if flight is None:
            flight = self._start(key, variant, work)
        await self._wait(flight, progress)

    def close(self) -> None:
        """Cancel everything under way."""
        for flight in self._flights.values():
            self._abandon(flight)

    def _start(self, key: str, variant: Hashable, work: Work) -> _Flight:
        flight = self._flights[key] = _Flight(variant)
        flight.task = self._group.create_task(_outcome(work, flight.report))
        flight.task.add_done_callback(lambda task: self._landed(key, flight, task))
        return flight

    def _landed(self, key: str, flight: _Flight, task: asyncio.Task[Exception | None]) -> None:
        del self._flights[key]
        gone = RegistryUnavailable("the pull was given up: the agent is stopping")
        error = gone if task.cancelled() else task.result()
        if error is None:
            flight.ended.set_result(None)
        else:
            flight.ended.set_exception(error)
            flight.ended.exception()  # seen: nobody may be waiting any more

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
        flight.leaving = True
        if flight.task:
            flight.task.cancel()


async def _outcome(work: Work, report: ReportProgress) -> Exception | None:
    """What the callers shall be told; raised, it would end every other pull of the group."""
    try:
        await work(report)
    except Exception as error:
        return error
    return None
