"""Opening files in threads, for callers that leave before a file system has answered. SHELL."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

D = TypeVar("D", int, int | None)


async def opened(pool: ThreadPoolExecutor, open_: Callable[[], D], limit_s: float) -> D:
    """The descriptor that `open_` returns in a thread of the pool. One that arrives when its caller
    has left is closed. Raises TimeoutError, and the errors of `open_`.
    """
    opening = asyncio.get_running_loop().run_in_executor(pool, open_)
    try:
        async with asyncio.timeout(limit_s):
            return await asyncio.shield(opening)
    except BaseException:
        opening.add_done_callback(_close)
        raise


def _close(opening: "asyncio.Future[D]") -> None:
    if opening.cancelled() or opening.exception() is not None:
        return
    if (descriptor := opening.result()) is not None:
        os.close(descriptor)
