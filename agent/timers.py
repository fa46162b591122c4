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
        self._earlier = asyncio.Event()

    def set(self, key: K, at: Instant) -> None:
        """Set the key's deadline; NEVER removes it."""
        if at == NEVER:
            self._due.pop(key, None)
            return
        if self._due.get(key) == at:
            return
        self._due[key] = at
        heapq.heappush(self._heap, (at, key))
        if self._heap[0] == (at, key):
            self._earlier.set()

    async def run(self, fire: Callable[[K], None]) -> None:
        """Call `fire` at every deadline, until cancelled."""
        while True:
            self._earlier.clear()
            now = self._clock.now()
            while self._heap and self._heap[0][0] <= now:
                at, key = heapq.heappop(self._heap)
                if self._due.get(key) == at:
                    del self._due[key]
                    fire(key)
            wait = seconds(self._heap[0][0] - now) if self._heap else None
            try:
                async with asyncio.timeout(wait):
                    await self._earlier.wait()
            except TimeoutError:
                pass
