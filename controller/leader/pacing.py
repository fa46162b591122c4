"""Keeps the size of the fleet and of requests from holding up the leader's loop. SHELL (waits)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from google.protobuf.message import Message
from msgspec import Struct

from controller.brain.slices import Slices
from pyswarm_core.codec import to_proto
from pyswarm_core.limits import SLICE_BYTES, SLICE_OBJECT_BYTES

T = TypeVar("T")
K = TypeVar("K")
R = TypeVar("R", bound=Message)


class RateLimiter:
    """`async with limiter:` lets `at_once` in, and each place stays taken for `pause_s` afterwards.

    One alone goes through at once; of very many, at most `at_once / pause_s` a second do. With no
    pause a place is free again after a pass of the event loop.
    """

    def __init__(self, at_once: int, pause_s: float = 0.0) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._pause_s = pause_s

    async def __aenter__(self) -> None:
        await self._places.acquire()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.get_running_loop().call_later(self._pause_s, self._places.release)


def _nothing_more(_: object) -> int:
    return 0


async def breathing(work: Slices[T], breathe: Callable[[], Awaitable[None]]) -> T:
    """The result of the leader's own work; others run between its slices."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result
        await breathe()


def parts(
    keys: Iterable[K],
    view: Callable[[K], Struct | None],
    reply: type[R],
    field: str,
    work: Callable[[K], int] = _nothing_more,
) -> Iterator[R]:
    """Replies with the views of all keys in their repeated `field`, about SLICE_BYTES in each.

    A reply is one slice of work; it may be empty. A key whose view is None, because it is gone, is
    left out. `work` says what making a key's view takes beyond its bytes, in bytes too.
    """
    part, weight = reply(), 0
    for key in keys:
        weight += SLICE_OBJECT_BYTES + work(key)
        if (seen := view(key)) is not None:
            weight += to_proto(seen, getattr(part, field).add()).ByteSize()
        if weight >= SLICE_BYTES:
            yield part
            part, weight = reply(), 0
    if weight:
        yield part


class Turns:
    """Runs sliced work: of all that is under way one slice per pass of the event loop, in turn.

    However many requests there are, the loop is held for one slice at a time.
    """

    def __init__(self) -> None:
        self._limiter = RateLimiter(1)

    async def run(self, work: Slices[T]) -> T:
        """The result of the work. What it raises ends it."""
        result, _ = await self.counted(work)
        return result

    async def counted(self, work: Slices[T]) -> tuple[T, int]:
        """The result, and how many slices it took."""
        slices = 0
        while True:
            slices += 1
            async with self._limiter:
                try:
                    next(work)
                except StopIteration as done:
                    return done.value, slices

    async def each(self, items: Iterable[T]) -> AsyncIterator[T]:
        """The items of an iterator whose every step is a slice."""
        source = iter(items)
        while True:
            async with self._limiter:
                try:
                    item = next(source)
                except StopIteration:
                    return
            yield item
