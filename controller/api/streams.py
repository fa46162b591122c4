"""Streams for users: events, the progress of a service, the members of a network. SHELL.

A streaming use case takes a function, `send`. It is not a generator, because task groups and
timeouts are open while the reader takes an item, and a generator must not yield inside them (PEP
789).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from controller.api.queries.filters import event_keys, event_passes, parse
from controller.api.queries.lookup import Sees, find
from controller.api.queries.members import network_peers, network_service, services_on
from controller.api.queries.progress import look_at_progress
from controller.leader.events.history import MISSED
from controller.leader.leadership import Leader, Leadership
from controller.leader.watches import Seen
from pyswarm_core.clock import Clock, seconds
from pyswarm_core.errors import Unavailable
from pyswarm_core.ids import NetworkId
from pyswarm_core.kinds import SERVICE
from pyswarm_core.limits import EVENTS_PER_MESSAGE
from pyswarm_core.views import Event, EventQuery, ServiceProgress

LOOK_AT_LEADER_EVERY_S = 1.0

T = TypeVar("T")
Send = Callable[[T], Awaitable[None]]
"""Sends one item of a stream; waits while the reader is slow."""


async def watch_service(
    leadership: Leadership, ref: str, send: Send[ServiceProgress], *, follow: bool
) -> None:
    """Send the progress now and after every change, until it converged, failed or is gone, or its
    update is paused. With `follow` until it is gone.

    Raises NotFound, and Unavailable when leadership is lost.
    """
    leader = leadership.current()
    service_id = find(leader.state, SERVICE, ref).id
    sent: ServiceProgress | None = None
    with leader.watches.watching(service_id, look_at_progress, service_id) as watcher:
        while True:
            progress = certain(await watcher.next())
            if progress != sent:
                async with leader.watches.telling:
                    pass  # few in one pass of the event loop
                await send(progress)
                sent = progress
            ended = progress.converged or progress.is_paused or bool(progress.failure)
            if progress.gone or (ended and not follow):
                return


def certain(seen: Seen[ServiceProgress]) -> ServiceProgress:
    """Without verdicts that mix two moments: another evaluation follows."""
    if seen.settled:
        return seen.value
    state = "" if seen.value.is_paused else seen.value.update_state
    return replace(
        seen.value, converged=False, filled=False, gone=False, failure="", update_state=state
    )


async def follow_events(
    leadership: Leadership, query: EventQuery, clock: Clock, send: Send[Sequence[Event]]
) -> None:
    """Send the events from `since` to `until`. An end in the past also ends a stream that follows.

    Raises InvalidArgument for an unknown filter and for a revision whose events are not kept,
    Unavailable when leadership is lost.
    """
    keys = event_keys()
    filters = parse(query.filters, keys, "event")
    step = max(1, EVENTS_PER_MESSAGE // max(1, sum(map(len, filters.values()))))
    leader = leadership.current()

    def passes(event: Event) -> bool:
        in_time = event.at >= query.since and (not query.until or event.at <= query.until)
        return event.type == MISSED or (in_time and event_passes(event, filters, keys))

    async def tell(events: Sequence[Event]) -> None:
        told: list[Event] = []
        for first in range(0, len(events), step):
            async with leader.watches.telling:  # few in one pass of the event loop
                told += [event for event in events[first : first + step] if passes(event)]
        if told:
            await send(told)

    first = 0 if query.since else None
    if query.since_revision:
        first = leader.events.position_of(query.since_revision)
    left_s = seconds(query.until - clock.now()) if query.until else None
    if not query.follow or (left_s is not None and left_s <= 0):
        kept = leader.events.kept(first or 0)
        for first in range(0, len(kept), EVENTS_PER_MESSAGE):
            await tell(kept[first : first + EVENTS_PER_MESSAGE])
        return
    try:
        async with asyncio.timeout(left_s), asyncio.TaskGroup() as group:
            group.create_task(while_leading(leadership, leader))
            async for events in leader.events.follow(position=first):
                await tell(events)
    except TimeoutError:
        return


class Members(NamedTuple):
    """Members of a network of one kind. Each step of the iterator is bounded."""

    kind: Literal["services", "peers"]
    found: Iterator[msgspec.Struct | None]


async def send_members(
    leader: Leader, network_id: NetworkId, sees: Sees, send: Send[Members]
) -> None:
    """Send one service after the other that the caller may see, with its tasks on the network; then
    the hosts, if the caller may see nodes.
    """
    state = leader.state
    found = await leader.watches.runner.run(services_on(state, network_id))
    for service_id in (one for one in found if sees(state, one)):
        await send(Members("services", network_service(state, network_id, service_id)))
    peers = network_peers(state, network_id, leader.acknowledged, sees)
    await send(Members("peers", peers))


async def while_leading(leadership: Leadership, leader: Leader) -> None:
    """Run until that leader is no longer the current one, then raise Unavailable."""
    while True:
        if leadership.current() is not leader:
            raise Unavailable("another term of leadership began: try again")
        await asyncio.sleep(LOOK_AT_LEADER_EVERY_S)
