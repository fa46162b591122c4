"""Runs large work in slices, so that it does not block the event loop. SHELL (waits)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import TypeVar

from controller.brain.slices import Slices

T = TypeVar("T")


class RateLimiter:
    """`async with limiter:` admits `at_once`; each place stays taken for `pause_s` afterwards.

    At most `at_once / pause_s` operations a second are admitted; a single one is admitted at once.
    With no pause a place is free again after one pass of the event loop.
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


async def run_sliced(work: Slices[T], yield_loop: Callable[[], Awaitable[None]]) -> T:
    """The result of the leader's own work. `yield_loop` is awaited between its slices."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result
        await yield_loop()


class SliceRunner:
    """Runs sliced work of all requests: one slice per pass of the event loop, in turn.

    The loop is blocked for one slice at a time, however many requests there are.
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
