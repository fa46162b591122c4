"""Work on files in threads, item by item, for the event loop. SHELL.

A step runs only while somebody waits for its item: a slow reader occupies no thread, and a reader
that is gone ends the work.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

T = TypeVar("T")

_END = object()


async def pulled(threads: Executor, work: Generator[T]) -> AsyncGenerator[T]:
    """The items of a generator whose steps run in threads. It is closed at the end, when this
    iterator is closed, and when the reader is cancelled.
    """
    step: Future[object] | None = None
    try:
        while True:
            step = threads.submit(next, work, _END)
            item = await asyncio.wrap_future(step)
            if item is _END:
                return
            yield item  # type: ignore[misc]
    finally:
        if step is None or step.done():
            work.close()
        else:  # a cancelled reader's step goes on until its item
            step.add_done_callback(lambda _: work.close())


class Chunks:
    """Reads the bytes of an iterator as of a file. `count` is how many were read."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._left = memoryview(b"")
        self.count = 0

    async def __call__(self, size: int) -> bytes:
        """At most `size` bytes; empty at the end."""
        while not self._left:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                return b""
            self._left = memoryview(chunk)
        taken, self._left = self._left[:size], self._left[size:]
        self.count += len(taken)
        return bytes(taken)


def batches(items: Iterator[T], size: int) -> Generator[list[T]]:
    """The items in lists of at most `size`."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
