"""Measures how long the event loop was blocked. SHELL.

The loop calls its selector once per pass, and runs ready callbacks in between. So the processor
time of the thread between two calls is at least that of the longest slice in the pass. A
measurement costs a microsecond per pass and nothing per callback.
"""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any


class TimedSelector(selectors.DefaultSelector):
    """A selector that measures the passes of its event loop."""

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        super().__init__()
        self.longest_s = 0.0
        """Processor time of the longest pass."""
        self._clock = clock
        self._began = clock()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Select; a pass has ended and the next one begins."""
        now = self._clock()
        self.longest_s = max(self.longest_s, now - self._began)
        self._began = now
        return super().select(timeout)


def run_measured(selector: TimedSelector, main: Coroutine[Any, Any, None]) -> None:
    """`asyncio.run` with an event loop whose passes are measured."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(main)
