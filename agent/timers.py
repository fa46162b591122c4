"""One deadline per key, and one coroutine that waits for all of them. SHELL."""

import asyncio
import heapq
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from pyswarm_core.clock import NEVER, Clock, Instant, seconds

K = TypeVar("K", bound=Any)
"""Hashable, and comparable with others of its type."""


class Timers(Generic[K]):
    """Calls back at deadlines. Setting a deadline replaces the key's earlier one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[K, Instant] = {}
        self._heap: list[tuple[Instant, K]] = []
        self._running: _Running[K] | None = None

    def set(self, key: K, at: Instant) -> None:
        """Set the key's deadline; NEVER removes it."""
        if at == NEVER:
            self._due.pop(key, None)
            return
        if self._due.get(key) == at:
            return
        self._due[key] = at
        heapq.heappush(self._heap, (at, key))
        running = self._running
        if running is not None and not running.fires and self._heap[0] == (at, key):
            self._arm(running)

    async def run(self, fire: Callable[[K], None]) -> None:
        """Call `fire` at every deadline, until cancelled or until it raises."""
        running = self._running = _Running(fire)
        self._wake(running)
        try:
            await running.failed
        finally:
            self._running = None
            if running.handle is not None:
                running.handle.cancel()

    def _wake(self, running: "_Running[K]") -> None:
        """Fire what is due; called by the event loop's one timer."""
        now = self._clock.now()
        running.fires = True
        try:
            while self._heap and self._heap[0][0] <= now:
                at, key = heapq.heappop(self._heap)
                if self._due.get(key) == at:
                    del self._due[key]
                    running.fire(key)
        except Exception as error:
            if not running.failed.done():
                running.failed.set_exception(error)
            return
        finally:
            running.fires = False
        self._arm(running)

    def _arm(self, running: "_Running[K]") -> None:
        """Have the event loop wake up at the first deadline."""
        if running.handle is not None:
            running.handle.cancel()
        if self._heap:
            wait = max(0, self._heap[0][0] - self._clock.now())
            running.handle = running.loop.call_later(seconds(wait), self._wake, running)


class _Running(Generic[K]):
    """One call of `Timers.run`."""

    def __init__(self, fire: Callable[[K], None]) -> None:
        self.fire = fire
        self.fires = False
        """Whether it is calling `fire`, which sets deadlines."""
        self.loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[None] = self.loop.create_future()
        self.handle: asyncio.TimerHandle | None = None
