"""One deadline per task, and one coroutine that waits for all of them. SHELL."""

import asyncio
import heapq
from collections.abc import Callable

from pyswarm_core.clock import NEVER, Clock, Instant, seconds
from pyswarm_core.ids import TaskId


class Timers:
    """Calls back at the deadlines of tasks. Setting a deadline replaces the task's earlier one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[TaskId, Instant] = {}
        self._heap: list[tuple[Instant, TaskId]] = []
        self._earlier = asyncio.Event()

    def set(self, task_id: TaskId, at: Instant) -> None:
        """Set the task's deadline; NEVER removes it."""
        if at == NEVER:
            self._due.pop(task_id, None)
            return
        if self._due.get(task_id) == at:
            return
        self._due[task_id] = at
        heapq.heappush(self._heap, (at, task_id))
        self._earlier.set()

    async def run(self, fire: Callable[[TaskId], None]) -> None:
        """Call `fire` at every deadline, until cancelled."""
        while True:
            self._earlier.clear()
            now = self._clock.now()
            while self._heap and self._heap[0][0] <= now:
                at, task_id = heapq.heappop(self._heap)
                if self._due.get(task_id) == at:
                    del self._due[task_id]
                    fire(task_id)
            wait = seconds(self._heap[0][0] - now) if self._heap else None
            try:
                async with asyncio.timeout(wait):
                    await self._earlier.wait()
            except TimeoutError:
                pass
