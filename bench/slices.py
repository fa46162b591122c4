"""The longest slice: the CPU time for which a callback blocks an event loop. SHELL.

The thread's CPU time, so that other processes do not count. A garbage collection counts as part of
its callback, and separately. A controller exports the longest pass of its event loop
(`pyswarm_core.aio.held`), which costs less and names no callback.
"""

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

WORTH_A_NAME_S = 0.002


class Longest:
    """The seconds of the longest slice of each callback, by its name."""

    def __init__(self) -> None:
        self.by_name: dict[str, float] = {}

    def note(self, name: str, took_s: float) -> None:
        """Record a slice."""
        if took_s > self.by_name.get(name, 0.0):
            self.by_name[name] = took_s

    def top(self, count: int) -> list[tuple[str, float]]:
        """The longest slices, in descending order."""
        return sorted(self.by_name.items(), key=lambda item: -item[1])[:count]


@contextmanager
def measured(longest: Longest) -> Iterator[None]:
    """Measure every callback of this process's event loops during the block."""
    run = asyncio.Handle._run
    clock = time.thread_time
    began = [0.0]

    def measured_run(handle: Any) -> None:
        place, start = _place(handle), clock()
        try:
            run(handle)
        finally:
            took_s = clock() - start
            if took_s > WORTH_A_NAME_S:
                longest.note(f"{place} to {_place(handle)}", took_s)

    def collected(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            began[0] = clock()
        else:
            longest.note(f"garbage of generation {info['generation']}", clock() - began[0])

    asyncio.Handle._run = measured_run  # type: ignore[assignment, method-assign]
    gc.callbacks.append(collected)
    try:
        yield
    finally:
        gc.callbacks.remove(collected)
        asyncio.Handle._run = run  # type: ignore[method-assign]


def _place(handle: Any) -> str:
    """The name of the callback's innermost coroutine."""
    callback = getattr(handle, "_callback", None)  # removed if it was cancelled
    task = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return str(getattr(callback, "__qualname__", callback))
    coroutine: Any = task.get_coro()
    while hasattr(inner := getattr(coroutine, "cr_await", None), "cr_await"):
        coroutine = inner
    return str(coroutine.__qualname__).replace(".<locals>", "")
