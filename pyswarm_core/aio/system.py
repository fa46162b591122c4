"""The system clock and the random source of ids, which other code gets as arguments; work in
threads. SHELL.
"""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from pyswarm_core.clock import Instant
from pyswarm_core.ids import ID_LENGTH, ids_from_bytes

P = ParamSpec("P")
T = TypeVar("T")


class SystemClock:
    """The host's wall clock."""

    def now(self) -> Instant:
        return Instant(time.time_ns())


class UnsteppedClock:
    """The host's wall clock as of the creation of this object, then steady: setting the host's
    clock neither delays nor advances a deadline.
    """

    def __init__(self) -> None:
        self._offset = time.time_ns() - time.monotonic_ns()

    def now(self) -> Instant:
        return Instant(self._offset + time.monotonic_ns())


class SteadyClock:
    """A clock with an unspecified start that is never set: for leases, not for timestamps."""

    def now(self) -> Instant:
        return Instant(time.monotonic_ns())


class RandomIds:
    """Ids of 125 bits from the kernel's generator."""

    def draw(self, count: int) -> list[str]:
        return ids_from_bytes(os.urandom(ID_LENGTH * count))


def home_directory() -> Path:
    """The user's home directory; `/`, as in a container, of a user that has none."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


async def to_its_end(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the work returns, in a thread. A caller that is cancelled leaves once the work has
    ended: what follows, such as the removal of what it makes, never runs beside it.
    """
    loop = asyncio.get_running_loop()
    running = loop.run_in_executor(None, partial(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait((running,))
        if not running.cancelled():
            running.exception()  # marks it as retrieved
        raise
