"""The beginning of moves of volumes right after an election. SHELL."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from controller.api.changes.moving.moves import Unheard, begin_moves
from controller.leader.leadership import Mutation
from pyswarm_core.clock import seconds
from pyswarm_core.limits import LEADER_GRACE
from pyswarm_core.volumes.volume import Volume

LOOK_PERIOD_S = 0.25
HEARD_S = seconds(LEADER_GRACE) + 2.0
"""By then a node has connected to a new leader, or is down. Callers wait longer for an answer."""

Submit = Callable[[Mutation[tuple[Volume, ...]]], Awaitable[tuple[Volume, ...]]]


async def move(submit: Submit, refs: Sequence[str], to: str, *, force: bool) -> tuple[Volume, ...]:
    """`begin_moves`, once the nodes have connected to this leader: for those that it has not heard
    of yet, as after an election, it waits up to HEARD_S.
    """
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + HEARD_S
    while True:
        try:
            return await submit(
                lambda state, now, ids: begin_moves(state, refs, to, now, force=force)
            )
        except Unheard:
            if loop.time() >= give_up_at:
                raise
        await asyncio.sleep(LOOK_PERIOD_S)
