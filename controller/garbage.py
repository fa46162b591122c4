"""Looks for garbage when that cannot cost the lease. SHELL around the interpreter's collector.

What nobody refers to is freed at once, always; the collector finds what refers to itself. It looks
at young objects often, which is cheap. Looking at all of them pauses everything, the longer the
more sessions there are, and by itself the interpreter would do so dozens of times while a fleet
connects. What ended sessions leave is most of what can be found, so a leader looks when enough of
them have ended, just after its lease was renewed. Loaded state costs nothing here: it has no cycles
and is not tracked.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable

LOOK_PERIOD_S = 60.0
ENDED_SESSIONS = 1_000
"""Each leaves some 70 objects."""
YOUNG_OBJECTS = 5_000
"""New objects after which the youngest are looked at."""
NEVER = 1_000_000_000
"""Looks at younger objects before the interpreter would look at all by itself."""


async def tend(
    ended: Callable[[], int],
    breathe: Callable[[], Awaitable[None]],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """For ever: look at everything when enough sessions have ended, each time after a `breathe`.

    `ended` counts them. The interpreter decides by itself again when this is cancelled.
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
        gc.set_threshold(*before)
