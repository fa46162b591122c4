"""One deadline per task, one sleeping coroutine for all. SHELL."""

import asyncio
import heapq
from collections.abc import Callable

from pyswarm_core.clock import NEVER, Clock, Instant, seconds
from pyswarm_core.ids import TaskId


class Timers:
    """Calls back when a task's deadline has come. Setting a deadline replaces the task's earlier
    one.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[TaskId, Instant] = {}
        self._heap: list[tuple[Instant, TaskId]] = []
        self._earlier = asyncio.Event()

    def set(self, task_id: TaskId, at: Instant) -> None:
        """Call back for this task at `at`; NEVER takes its deadline away."""
        if at == NEVER:
            self._due.pop(task_id, None)
            return
        if self._due.get(task_id) == at:
            return
        self._due[task_id] = at
        heapq.heappush(self._heap, (at, task_id))
        self._earlier.set()

    async def run(self, ring: Callable[[TaskId], None]) -> None:
        """Ring for every deadline that comes, until cancelled."""
        while True:
            self._earlier.clear()
            now = self._clock.now()
            while self._heap and self._heap[0][0] <= now:
                at, task_id = heapq.heappop(self._heap)
                if self._due.get(task_id) == at:
                    del self._due[task_id]
                    ring(task_id)
            wait = seconds(self._heap[0][0] - now) if self._heap else None
            try:
                async with asyncio.timeout(wait):
                    await self._earlier.wait()
            except TimeoutError:
                pass
