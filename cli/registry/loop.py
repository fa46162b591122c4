"""The event loop of the connections to the fleet's registry, one in a process. SHELL.

gRPC has one poller in a process, which hands on what it completes to the loop of the call, also a
moment after the call has ended. So the loop is never closed: it stands still while nobody uses it,
and the next user finds what came late. Everything that streams beside an open registry runs in it,
as two loops at once would compete for the poller's socket.
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Work:
    """A coroutine in the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, Any]) -> None:
        self._loop = loop
        self._task: asyncio.Task[Any] | None = None
        self._ended = threading.Event()
        loop.call_soon_threadsafe(self._start, main)

    def result(self) -> Any:
        """Wait for its end. Raises what it raised."""
        self._ended.wait()
        assert self._task is not None
        return self._task.result()

    def cancel(self, timeout_s: float) -> None:
        """Cancel it, and wait for its end; no effect if it has ended."""
        self._loop.call_soon_threadsafe(self._cancel)
        self._ended.wait(timeout_s)

    def _start(self, main: Coroutine[Any, Any, Any]) -> None:
        self._task = self._loop.create_task(main)
        self._task.add_done_callback(self._end)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _end(self, task: "asyncio.Task[Any]") -> None:
        if not task.cancelled():
            task.exception()  # otherwise asyncio prints one that nobody asks for
        self._ended.set()


class _Loop:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @contextmanager
    def running(self) -> Iterator[asyncio.AbstractEventLoop]:
        with self._lock:
            self._users += 1
            loop = self._loop = self._loop or asyncio.new_event_loop()
            if self._users == 1:
                self._thread = threading.Thread(target=_run, args=(loop,), daemon=True)
                self._thread.start()
        try:
            yield loop
        finally:
            with self._lock:
                self._users -= 1
                if not self._users and self._thread is not None:
                    loop.call_soon_threadsafe(loop.stop)
                    self._thread.join()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()


_LOOP = _Loop()


@contextmanager
def started(main: Coroutine[Any, Any, Any], end_s: float) -> Iterator[Work]:
    """The coroutine runs during the block, and is cancelled at its end, which waits that long."""
    with _LOOP.running() as loop:
        work = Work(loop, main)
        try:
            yield work
        finally:
            work.cancel(end_s)


def run(main: Coroutine[Any, Any, T], end_s: float = 10.0) -> T:
    """`asyncio.run` in this loop."""
    with started(main, end_s) as work:
        result: T = work.result()
        return result
