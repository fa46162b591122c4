"""Connections of a user to the fleet's registry, as channels of one byte stream. SHELL."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

from controller.api.registry.rules import require_allowed
from controller.identity.caller import Caller
from controller.leader.leadership import Leadership
from controller.registry import gate
from controller.registry.actions import Action, require_named
from controller.registry.gate import Connect, Ends, Rules
from controller.registry.messages import HEAD_BYTES_MAX
from controller.registry.registry import NO_REGISTRY, FleetRegistry, NoRegistry
from controller.registry.upkeep import RegistryUpkeep, Writer
from pyswarm_core.aio.streams.carrying import Carrier
from pyswarm_core.aio.streams.duplex import Send
from pyswarm_core.docker.reference import Reference, parse_reference
from pyswarm_core.errors import NotFound, PyswarmError, Unavailable, invalid
from pyswarm_core.identity.audit import FieldChange
from pyswarm_core.registry.limits import (
    CARRIED_FRAME_BYTES,
    CARRIED_WINDOW,
    REGISTRY_PASSWORD_LEAST,
)
from pyswarm_core.registry.names import name_of
from pyswarm_core.streams.frames import Connect as ConnectFrame
from pyswarm_core.streams.frames import Exit, Frame, Started
from pyswarm_core.streams.limits import CONNECTIONS_PER_STREAM

PUSH = "image push"
REMOVE = "image rm"


class Link(NamedTuple):
    """The caller's end of the stream."""

    send: Send
    receive: Callable[[], Awaitable[Frame | None]]
    """The next frame of a known kind; None once the caller has ended its side."""


class Access(NamedTuple):
    """Who opens connections, and for what."""

    caller: Caller
    password: str
    writes: bool


async def serve_registry(
    leadership: Leadership, registry: FleetRegistry | NoRegistry, access: Access, link: Link
) -> None:
    """Serve connections until the caller ends the stream.

    Raises InvalidArgument for the password, Unavailable if there is no leader or no registry.
    """
    if len(access.password) < REGISTRY_PASSWORD_LEAST:
        expected = f"expected at least {REGISTRY_PASSWORD_LEAST} characters"
        raise invalid("password", "", expected)
    leadership.current()
    if isinstance(registry, NoRegistry):
        raise Unavailable(NO_REGISTRY)
    (await registry.connect()).writer.close()  # an error here is shown whole
    upkeep = registry.upkeep
    async with upkeep.writing() if access.writes else nullcontext(Writer(_at_once)) as writer:
        rules = Rules(
            access.password,
            access.writes,
            partial(_admit, leadership, access.caller, upkeep),
            partial(_written, leadership, access.caller),
            writer.renew,
            writer.touch,
            upkeep.require_room,
        )
        await _connections(registry.connect, rules, link)
    await link.send(Exit())


async def _at_once() -> None:
    """Who reads waits for no collection."""


async def _connections(connect: Connect, rules: Rules, link: Link) -> None:
    """Serve connections until the caller ends its side."""
    carrier = Carrier(link.send, CARRIED_WINDOW, CARRIED_FRAME_BYTES)
    await link.send(Started())
    open_ones: set[asyncio.Task[None]] = set()
    async with asyncio.TaskGroup() as group:
        while (frame := await link.receive()) is not None:
            if carrier.take(frame) or not isinstance(frame, ConnectFrame):
                continue
            channel = frame.channel
            if channel in carrier or len(carrier) >= CONNECTIONS_PER_STREAM:
                text = f"{len(carrier)} connections of this stream are open, which is the limit"
                await carrier.refuse(channel, text)
                continue
            carrier.reserve(channel)
            task = group.create_task(_connection(carrier, channel, connect, rules))
            open_ones.add(task)
            task.add_done_callback(open_ones.discard)
        for task in tuple(open_ones):
            task.cancel()


async def _connection(carrier: Carrier, channel: int, connect: Connect, rules: Rules) -> None:
    """One connection: its channel on one end of a pair of sockets, the gate on the other."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with theirs:
        try:
            ends = Ends(*await asyncio.open_connection(sock=ours, limit=HEAD_BYTES_MAX))
        except BaseException:
            ours.close()
            raise
        async with asyncio.TaskGroup() as group:
            group.create_task(carrier.carry(channel, theirs))
            group.create_task(gate.serve(ends, connect, rules))


async def _admit(
    leadership: Leadership, caller: Caller, upkeep: RegistryUpkeep, action: Action
) -> bool:
    """Raise PyswarmError unless the caller may do this; False if it is done: the distribution
    removes no tag.
    """
    leader = leadership.current()
    try:
        going = await _taken_along(upkeep, action)
        await leader.watches.runner.run(require_allowed(caller, action, leader.state, going))
        if action.begins_upload:
            await upkeep.require_room()
        if not (action.deletes and action.is_tag):
            return True
        await _remove_tag(upkeep, action)
    except PyswarmError as error:
        verb = REMOVE if action.deletes else PUSH
        which = f":{action.which}" if action.which else ""
        leader.audit.refuse(caller, verb, error, f"{action.repository}{which}")
        raise
    leader.audit.note(caller, REMOVE, action.reference.familiar)
    return False


async def _taken_along(upkeep: RegistryUpkeep, action: Action) -> tuple[Reference, ...]:
    """What a removal of a digest takes along: the distribution removes its tags too."""
    if not action.deletes or action.is_tag:
        return ()
    require_named(action)
    repository = action.repository
    tags, lists = await asyncio.to_thread(upkeep.storage.taken_along, repository, action.which)
    name = name_of(repository)
    return tuple(parse_reference(f"{name}{text}") for text in
                 (*(f":{tag}" for tag in tags), *(f"@{digest}" for digest in lists)))  # fmt: skip


async def _remove_tag(upkeep: RegistryUpkeep, action: Action) -> None:
    if not await asyncio.to_thread(upkeep.storage.remove_tag, action.repository, action.which):
        raise NotFound(f"the fleet's registry has no image {action.reference.familiar}")


def _written(leadership: Leadership, caller: Caller, action: Action, status: int) -> None:
    """Record a push or removal that the registry has carried out."""
    if status >= 300 or not (action.pushes or action.deletes):
        return
    name = action.reference.familiar
    about = [FieldChange(field="Repository", after=action.repository)]
    leadership.current().audit.note(caller, REMOVE if action.deletes else PUSH, name, about)
