"""Sends a service's progress as it changes. SHELL over `controller/requests/progress.py`.

Level-triggered: what is sent is computed from the state at that moment, so a change missed while
the reader was slow is in the next message. The pause between two looks grows with their cost.
"""

import asyncio
import time

from controller.leadership import Leader, Leadership
from controller.requests.lookup import find_service
from controller.requests.progress import ServiceProgress, service_progress
from controller.servers.calls import Write
from pyswarm_core.api.v1 import control_pb2
from pyswarm_core.clock import Clock, Instant
from pyswarm_core.codec import to_proto
from pyswarm_core.ids import ServiceId

PAUSE_S = 0.05
PAUSE_PER_COST = 10
"""A look takes at most a tenth of the leader's time."""
LOOK_AT_LEAST_EVERY_S = 1.0


async def watch_service(
    leadership: Leadership, request: control_pb2.WatchServiceRequest, clock: Clock, write: Write
) -> None:
    """Write the progress now and after every change, until it converged, failed or is gone.

    With `follow` until it is gone. Raises NotFound, and Unavailable when leadership is lost.
    """
    service_id = find_service(leadership.current().state, request.ref).id
    sent: ServiceProgress | None = None
    while True:
        leader = leadership.current()
        progress, pause_s = _look(leader, service_id, clock.now())
        if progress != sent:
            await write(to_proto(progress, control_pb2.ServiceProgress()))
            sent = progress
            ended = progress.converged or bool(progress.failure)
            if progress.gone or (ended and not request.follow):
                return
        else:
            await change(leader)
        await asyncio.sleep(pause_s)


async def change(leader: Leader) -> None:
    """Return when something changed, and now and then in any case."""
    try:
        async with asyncio.timeout(LOOK_AT_LEAST_EVERY_S):
            await leader.changed()
    except TimeoutError:
        pass


def _look(leader: Leader, service_id: ServiceId, now: Instant) -> tuple[ServiceProgress, float]:
    start = time.monotonic()
    progress = service_progress(leader.state, service_id, now)
    cost_s = time.monotonic() - start
    return progress, max(PAUSE_S, PAUSE_PER_COST * cost_s)
