"""An archive on its way from an event loop to the thread that unpacks it. SHELL."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import TypeVar

from pyswarm_core.errors import Unavailable

T = TypeVar("T")

_END_S = 5.0
"""How long a thread may take to remove what it made of an archive that was cut off."""


class Feed:
    """The bytes of an archive on their way from the event loop to a thread, one part at a time.
    With `idle_s` a sender that sends nothing for so long cuts it off.
    """

    def __init__(self, idle_s: float | None = None) -> None:
        self._idle_s = idle_s
        self.loop = asyncio.get_running_loop()
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._is_cut = False

    async def write(self, data: bytes) -> None:
        """Pass on some bytes; waits until those before them were taken."""
        if data:
            await self._parts.put(data)

    async def end(self) -> None:
        """The archive is complete."""
        await self._parts.put(b"")

    def cut(self) -> None:
        """The sender is gone: whoever waits for bytes gets an error."""
        self._is_cut = True
        while not self._parts.empty():
            self._parts.get_nowait()
        self._parts.put_nowait(None)

    def receive(self) -> bytes:
        """In a thread: the next bytes, empty at the end. Raises Unavailable if they are cut."""
        return asyncio.run_coroutine_threadsafe(self._take(), self.loop).result()

    async def _take(self) -> bytes:
        try:
            async with asyncio.timeout(self._idle_s):
                if self._is_cut or (part := await self._parts.get()) is None:
                    raise Unavailable("the copy was cut off")
        except TimeoutError:
            raise Unavailable(f"nothing was sent for {self._idle_s:g} s") from None
        return part


async def fed(
    feed: Feed, threads: Executor, work: Callable[[], T], ended: Callable[[], None] | None = None
) -> T:
    """What a thread makes of the bytes of the feed. If this call is cancelled, the feed is cut and
    the thread may clean up. `ended` is called in the event loop once the thread is done.
    """
    done = asyncio.Event()

    def end() -> None:
        done.set()
        if ended:
            ended()

    running = threads.submit(work)
    running.add_done_callback(lambda _: feed.loop.call_soon_threadsafe(end))
    try:
        return await asyncio.wrap_future(running)
    except asyncio.CancelledError:
        feed.cut()
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await done.wait()
        raise
