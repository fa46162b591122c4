"""Sends events that pass the filters: those remembered, with `follow` those to come. SHELL."""

import asyncio

from controller.leadership import Leader, Leadership
from controller.requests.event_filters import parse_event_filters, passes
from controller.servers.calls import Write
from controller.servers.events import Event
from controller.servers.progress import LOOK_AT_LEAST_EVERY_S
from pyswarm_core.api.v1 import control_pb2
from pyswarm_core.clock import Clock, Instant, seconds
from pyswarm_core.codec import to_proto
from pyswarm_core.errors import Unavailable


async def tell_events(
    leadership: Leadership, request: control_pb2.EventsRequest, clock: Clock, write: Write
) -> None:
    """Write the events from `since` (0: from now if following, else all) to `until` (0: no end).

    To follow until an instant that is past is not to follow.

    Raises InvalidArgument for an unknown filter, Unavailable when leadership is lost.
    """
    wanted = parse_event_filters(request.filters)
    leader = leadership.current()

    async def tell(event: Event) -> None:
        before_end = not request.until or event.at <= request.until
        if before_end and passes(event, wanted):
            await write(to_proto(event, control_pb2.Event()))

    left_s = seconds(request.until - clock.now()) if request.until else None
    if not request.follow or (left_s is not None and left_s <= 0):
        for event in leader.events.kept():
            if event.at >= request.since:
                await tell(event)
        return
    try:
        async with asyncio.timeout(left_s), asyncio.TaskGroup() as group:
            group.create_task(while_leading(leadership, leader))
            since = Instant(request.since) if request.since else None
            async for event in leader.events.follow(since):
                await tell(event)
    except TimeoutError:
        return


async def while_leading(leadership: Leadership, leader: Leader) -> None:
    """Run until that leader is no longer the current one, then raise Unavailable."""
    while True:
        if leadership.current() is not leader:
            raise Unavailable("another term of leadership began: ask again")
        await asyncio.sleep(LOOK_AT_LEAST_EVERY_S)
