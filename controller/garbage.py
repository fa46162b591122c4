"""Looks for garbage when that cannot cost the lease. SHELL around the interpreter's collector.

What nobody refers to is freed at once, always; the collector finds what refers to itself. It looks
at young objects often, which is cheap. Looking at all of them pauses everything, the longer the
more sessions there are, and by itself the interpreter would do so dozens of times while a fleet
connects. What ended sessions leave is most of what can be found, so a leader looks when enough of
them have ended. Loaded state has no cycles, but its dicts are looked through: a million tasks cost
50 ms. So what was loaded is frozen.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

LOOK_PERIOD_S = 60.0
ENDED_SESSIONS = 1_000
"""Each leaves some 70 objects."""
YOUNG_OBJECTS = 5_000
"""New objects after which the youngest are looked at."""
NEVER = 1_000_000_000
"""Looks at younger objects before the interpreter would look at all by itself."""


def freeze() -> None:
    """Have no look see what exists now: modules, and the state that was just loaded. Both live as
    long as the term or are freed without a look. `tend` has them looked at again when it ends.
    """
    gc.freeze()


@contextmanager
def unseen(then: Callable[[], None]) -> Iterator[None]:
    """No look while the block makes a million objects, none of them garbage; `then` comes before
    the next one.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        then()
    finally:
        if was_enabled:
            gc.enable()


async def tend(
    ended: Callable[[], int],
    breathe: Callable[[], Awaitable[None]],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """For ever: look at everything when enough sessions have ended, each time after a `breathe`.

    `ended` counts them. When this is cancelled, nothing is frozen any more, and the interpreter
    decides by itself again.
    """
    before = gc.get_threshold()
    gc.set_threshold(YOUNG_OBJECTS, before[1], NEVER)
    seen = ended()
    try:
        while True:
            await sleep(LOOK_PERIOD_S)
            if ended() - seen >= ENDED_SESSIONS:
                seen = ended()
                await breathe()
                gc.collect()
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
