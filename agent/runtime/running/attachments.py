"""Which tasks have clients that are attached, for programs that wait for one before they start.
SHELL: events of the loop.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pyswarm_core.clock import Clock, Instant, seconds
from pyswarm_core.ids import TaskId
from pyswarm_core.streams.limits import ATTACH_WAIT


class Attachments:
    """The attached clients of one host's tasks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._attached: dict[TaskId, int] = {}
        self._waiting: dict[TaskId, asyncio.Event] = {}

    @contextmanager
    def attached(self, task_id: TaskId) -> Iterator[None]:
        """A client is attached while the block runs."""
        self._attached[task_id] = self._attached.get(task_id, 0) + 1
        if (waiting := self._waiting.get(task_id)) is not None:
            waiting.set()
        try:
            yield
        finally:
            self._attached[task_id] -= 1
            if not self._attached[task_id]:
                del self._attached[task_id]

    def _left_s(self, latest: Instant) -> float:
        return seconds(min(latest - self._clock.now(), ATTACH_WAIT))

    async def until(self, task_id: TaskId, latest: Instant) -> None:
        """Return once a client is attached, at the latest at that time and after ATTACH_WAIT."""
        left_s = self._left_s(latest)
        if left_s <= 0 or task_id in self._attached:
            return
        event = self._waiting.setdefault(task_id, asyncio.Event())
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await event.wait()
        finally:
            self._waiting.pop(task_id, None)
