"""Keeps the fleet's own size from crowding out deciding and the lease. SHELL (waits only)."""

import asyncio
from types import TracebackType


class Pace:
    """`async with pace:` lets `at_once` in, and each place stays taken for `pause_s` afterwards.

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
