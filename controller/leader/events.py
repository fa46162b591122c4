"""What happened lately: a ring of events in memory, read by followers at their own pace. SHELL.

A follower holds a position in the ring, not a queue: it costs nothing while it waits, takes what it
has not seen yet together, and is told how many events it missed when it falls behind by more than
the ring holds. The ring dies with the leadership.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from itertools import islice

from controller.brain.orchestrator.quarantine import Failure
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Note, NoteKind, Writes
from pyswarm_core.ids import NetworkId, NodeId, ServiceId
from pyswarm_core.limits import DETAIL_LENGTH_MAX, EVENTS_KEPT, EVENTS_TOLD
from pyswarm_core.objects import clipped
from pyswarm_core.state import State
from pyswarm_core.states import NodeState
from pyswarm_core.views import Event

MISSED = "events"
"""The type of what tells a follower that it was too slow."""


def notes_of(state: State, writes: Writes) -> list[Note]:
    """What users' writes mean to people, told against the state before they are applied."""
    notes: list[Note] = []
    for service in writes.services:
        old = state.services.get(service.id)
        kind = NoteKind.SERVICE_CREATED if old is None else NoteKind.SERVICE_UPDATED
        if service.removing:
            continue  # told when its last task is gone
        notes.append(Note(kind, service.id, service.spec.name))
    notes += (
        Note(NoteKind.NETWORK_CREATED, network.id, network.spec.name)
        for network in writes.networks
        if network.id not in state.networks
    )
    for node in writes.nodes:
        kind, name, reason = NoteKind.NODE_JOINED, node.description.hostname, ""
        if (old_node := state.nodes.get(node.id)) is not None:
            was_down = old_node.status.state is NodeState.DOWN
            is_lost = node.status.state is NodeState.DOWN and not was_down
            kind = NoteKind.NODE_DOWN if is_lost else NoteKind.NODE_UPDATED
            reason = node.status.message if is_lost else ""
        notes.append(Note(kind, node.id, name, reason))
    for network_id in writes.removed_networks:
        network = state.networks.get(network_id)
        name = network.spec.name if network else ""
        notes.append(Note(NoteKind.NETWORK_REMOVED, network_id, name))
    for node_id in writes.removed_nodes:
        gone = state.nodes.get(node_id)
        name = gone.description.hostname if gone else ""
        notes.append(Note(NoteKind.NODE_REMOVED, node_id, name))
    return notes


def note_of_quarantine(state: State, failure: Failure) -> Note:
    """What people are told of an object that was quarantined."""
    object_id = failure.object_id
    service = state.services.get(ServiceId(object_id))
    network = state.networks.get(NetworkId(object_id))
    host = state.nodes.get(NodeId(object_id))
    if network is not None or failure.name.startswith("network/"):
        kind, name = NoteKind.NETWORK_QUARANTINED, network.spec.name if network else ""
    elif host is not None or failure.name.startswith("node/"):
        kind, name = NoteKind.NODE_QUARANTINED, host.description.hostname if host else ""
    else:
        kind, name = NoteKind.SERVICE_QUARANTINED, service.spec.name if service else ""
    return Note(kind, object_id, name, failure.reason)


class EventLog:
    """The newest events, oldest first."""

    def __init__(self, kept: int = EVENTS_KEPT) -> None:
        self._ring: deque[Event] = deque(maxlen=kept)
        self._end = 0
        self._grown = asyncio.Event()

    def record(self, notes: Iterable[Note], at: Instant, revision: int) -> None:
        """Append what the notes tell and wake the followers."""
        for note in notes:
            kind, _, action = note.kind.partition(".")
            event = Event(
                at=at,
                revision=revision,
                type=kind,
                action=action,
                id=note.subject,
                name=note.name,
                reason=clipped(note.reason, DETAIL_LENGTH_MAX),
                count=note.count,
            )
            self._ring.append(event)
            self._end += 1
        self._grown.set()
        self._grown = asyncio.Event()

    def kept(self) -> list[Event]:
        """Every event that is still remembered."""
        return list(self._ring)

    async def follow(self, *, from_start: bool = False) -> AsyncIterator[list[Event]]:
        """Events as they happen, at most EVENTS_TOLD at once, for ever; first those remembered if
        wanted.
        """
        position = self._end - len(self._ring) if from_start else self._end
        while True:
            if position == self._end:
                await self._grown.wait()
                continue
            oldest = self._end - len(self._ring)
            told = [self._missed(oldest - position)] if position < oldest else []
            position = max(position, oldest)
            begin = position - oldest
            told += islice(self._ring, begin, begin + EVENTS_TOLD)
            position = min(position + EVENTS_TOLD, self._end)
            yield told

    def _missed(self, count: int) -> Event:
        first = self._ring[0]
        return Event(
            at=first.at,
            revision=first.revision,
            type=MISSED,
            action="missed",
            reason="the reader was too slow",
            count=count,
        )
