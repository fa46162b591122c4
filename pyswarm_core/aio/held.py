"""How long the event loop was held. SHELL.

The loop asks its selector for news once per pass, and runs what is ready in between. So the time
between two questions, in the thread's processor time, is at least that of the longest slice in the
pass. A reading costs a microsecond per pass; nothing is added to a callback.
"""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any


class TimedSelector(selectors.DefaultSelector):
    """Measures the passes of the event loop that it is given to."""

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        super().__init__()
        self.longest_s = 0.0
        """Processor time of the longest pass."""
        self._clock = clock
        self._began = clock()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready; a pass has ended and the next one begins."""
        now = self._clock()
        self.longest_s = max(self.longest_s, now - self._began)
        self._began = now
        return super().select(timeout)


def run_measured(selector: TimedSelector, main: Coroutine[Any, Any, None]) -> None:
    """`asyncio.run` with an event loop whose passes are measured."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(main)
