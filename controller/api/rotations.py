"""Ends rotations of the cluster's CA. SHELL: waits only."""

import asyncio

from controller.api.changes.swarm import end_rotation
from controller.identity.caller import CONTROLLER
from controller.identity.rotation import ended
from controller.leader.leadership import Leader
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import Clock
from pyswarm_core.errors import Unavailable

_log = EventLog("controller.identity")

LOOK_PERIOD_S = 1.0


async def end_rotations(leader: Leader, clock: Clock) -> None:
    """End each rotation as `rotation.ended` says, until cancelled."""
    while True:
        await asyncio.sleep(LOOK_PERIOD_S)
        if ended(leader.state, clock.now()) is not None:
            try:
                await leader.submit(lambda state, now, ids: end_rotation(state, now), CONTROLLER)
            except Unavailable as error:  # such as a store without space
                _log.warning("ca.rotation_waits", error=error)
                continue
            _log.info("ca.rotated")
