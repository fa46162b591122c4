"""The whole state, read from the store at one revision. SHELL over the store.

Chunks are read in buckets (one per first letter of the service's id), several at a time: paging one
huge prefix takes quadratic time. What was read is decoded and applied to the state in short slices,
one at a time, so that other coroutines run meanwhile.

What cannot be read is left out and listed in State.unreadable. An unreadable object stays in the
store unchanged until a user removes it by its id; tasks of an unreadable service stay too, and so
do their containers. A chunk's bytes are copied to another key, and its slots are filled again.
"""

import asyncio
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from controller.brain.nodes import moved
from controller.identity.envelope import CannotOpen, Envelope
from controller.leader.audit.log import Entry
from controller.leader.persistence.saving import YieldLoop, pause
from controller.leader.persistence.unsaved import Unsaved
from controller.store.base import Compacted, KeyValue, Store, StoreMisuse
from pyswarm_core.chunks import decode_chunk
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import with_place
from pyswarm_core.ids import ID_ALPHABET
from pyswarm_core.keys import Keys
from pyswarm_core.kinds import CLUSTER, KINDS, NODE, SERVICE, Kind
from pyswarm_core.limits import SLICE_BYTES, SLICE_OBJECT_BYTES, SLICE_TASKS, VALUE_BYTES_MAX
from pyswarm_core.objects import Cluster, Node, Object, Task
from pyswarm_core.state import State
from pyswarm_core.states import NodeState, TaskState

BUCKETS_IN_FLIGHT = 4
ATTEMPTS = 5


class Loaded(msgspec.Struct, frozen=True):
    """The state, and what is to be saved at once (a new cluster, chunks to delete)."""

    state: State
    revision: int
    unsaved: Unsaved
    records: tuple[Entry, ...] = ()
    """The audit records."""
    events: Mapping[int, bytes] = {}
    """The pages of events."""


async def load(
    store: Store,
    keys: Keys,
    envelope: Envelope,
    first: Callable[[], Cluster],
    now: Instant,
    *,
    yield_loop: YieldLoop = pause,
) -> Loaded:
    """Read everything; a store without a cluster gets the one that `first` makes. `yield_loop` is
    awaited between slices of work.

    Nodes that were not down are unknown since `now`: this leader has not heard their agents. An
    object with a sensitive field in plain text is to be saved again, and then has none.
    """
    was_enabled = gc.isenabled()
    gc.disable()  # nothing that is loaded is garbage, and collections would traverse it all
    try:
        for _ in range(ATTEMPTS - 1):
            try:
                return await _load(store, keys, envelope, first, _Turn(now, yield_loop))
            except Compacted:
                continue
        return await _load(store, keys, envelope, first, _Turn(now, yield_loop))
    finally:
        if was_enabled:
            gc.enable()


class _Turn(msgspec.Struct, frozen=True):
    """When a load happens, and how it lets other coroutines run."""

    now: Instant
    yield_loop: YieldLoop


async def _load(
    store: Store, keys: Keys, envelope: Envelope, first: Callable[[], Cluster], turn: _Turn
) -> Loaded:
    found = await store.read(keys.cluster)
    unsaved = Unsaved()
    if found.items:
        state = State(_cluster(found.items[0], envelope))
        unsaved.cluster = not envelope.is_sealed(CLUSTER, found.items[0].value)
    else:
        state, unsaved.cluster = State(first()), True
    revision = found.revision
    kinds = tuple(KINDS.values())
    prefixes = (*map(keys.objects, kinds), keys.audits, keys.events)
    *objects, records, events = await asyncio.gather(
        *(store.read(one, revision) for one in prefixes)
    )
    pages = dict(_pages(keys, events.items))
    loaded = Loaded(state, revision, unsaved, tuple(_entries(keys, records.items)), pages)
    reader = _Reader(loaded, keys, envelope, turn)
    for kind, stored in zip(kinds, objects, strict=True):
        await reader.read(kind, stored.items)
    buckets = iter(ID_ALPHABET)
    taking = asyncio.Lock()

    async def work() -> None:
        for letter in buckets:
            bucket = await store.read(keys.chunks + letter.encode(), revision)
            async with taking:
                for tasks in reader.slices(bucket.items):
                    state.apply(Writes(tasks=tasks))
                    await turn.yield_loop()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(BUCKETS_IN_FLIGHT):
                group.create_task(work())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return loaded


def _cluster(item: KeyValue, envelope: Envelope) -> Cluster:
    """The cluster. Without it there is no term: tokens and node numbers cannot be made up."""
    try:
        return envelope.decode(CLUSTER, item.value)
    except CannotOpen as error:
        raise StoreMisuse(f"{item.key.decode(errors='replace')} cannot be read: {error}") from None
    except Exception as error:
        raise StoreMisuse(
            f"{item.key.decode(errors='replace')} cannot be read: restore it from a backup of the"
            f" store ({with_place(error)})"
        ) from None


def _entries(keys: Keys, items: Iterable[KeyValue]) -> Iterator[Entry]:
    """The audit records; other keys are left alone."""
    for item in items:
        with suppress(ValueError):
            yield Entry(*keys.parse_audit(item.key), item.value)


def _pages(keys: Keys, items: Iterable[KeyValue]) -> Iterator[tuple[int, bytes]]:
    """The pages of events by their numbers; other keys are left alone."""
    for item in items:
        with suppress(ValueError):
            yield keys.parse_event_page(item.key), item.value


class _Reader:
    """Applies to the state what can be read."""

    def __init__(self, loaded: Loaded, keys: Keys, envelope: Envelope, turn: _Turn) -> None:
        self._loaded = loaded
        self._keys = keys
        self._envelope = envelope
        self._now = turn.now
        self._yield_loop = turn.yield_loop

    async def read(self, kind: Kind[Any, Any], items: Sequence[KeyValue]) -> None:
        """Objects of one kind, about SLICE_BYTES at a time."""
        come_back = _COME_BACK.get(kind.name, _as_it_was)
        weight = 0
        for item in items:
            try:
                found = come_back(self._envelope.decode(kind, item.value), self._now)
                self._loaded.state.apply(Writes(objects=(found,)))
                if not self._envelope.is_sealed(kind, item.value):
                    self._loaded.unsaved.objects[kind.name][found.id] = None
            except Exception as error:
                self._leave_out(item.key, error)
            weight += SLICE_OBJECT_BYTES + len(item.value)
            if weight >= SLICE_BYTES:
                weight = 0
                await self._yield_loop()

    def slices(self, items: Iterable[KeyValue]) -> Iterator[list[Task]]:
        """The chunks' tasks, about SLICE_TASKS at a time; chunks without a service are deleted."""
        state, unsaved = self._loaded.state, self._loaded.unsaved
        tasks: list[Task] = []
        for item in items:
            try:
                key = self._keys.parse_chunk(item.key)
                is_unreadable = SERVICE.object_name(key.service_id) in state.unreadable
                if key.service_id not in state.services and not is_unreadable:
                    unsaved.chunks[key] = None
                    continue
                found = decode_chunk(key.service_id, item.value, state.node_of_number)
                # Unassigned tasks of a service that cannot be read could never be placed.
                tasks += [t for t in found if not is_unreadable or t.state >= TaskState.ASSIGNED]
            except Exception as error:
                self._leave_out(item.key, error)
                if len(item.value) <= VALUE_BYTES_MAX:
                    unsaved.aside[self._keys.aside(item.key)] = item.value
            if len(tasks) >= SLICE_TASKS:
                yield tasks
                tasks = []
        yield tasks

    def _leave_out(self, key: bytes, error: Exception) -> None:
        why = str(error) if isinstance(error, CannotOpen) else with_place(error)
        self._loaded.state.unreadable[self._keys.name_of(key)] = why


def _as_it_was(item: Object, _: Instant) -> Object:
    return item


def _unheard(node: Node, now: Instant) -> Node:
    if node.status.state in (NodeState.READY, NodeState.DISCONNECTED):
        return moved(node, NodeState.UNKNOWN, now)
    if node.status.since:
        return node
    # Stored by a version without `since`; it wrote `updated_at` with the state.
    status = msgspec.structs.replace(node.status, since=node.updated_at)
    return msgspec.structs.replace(node, status=status)


_COME_BACK: Mapping[str, Callable[[Any, Instant], Object]] = {NODE.name: _unheard}
"""Kinds whose objects change when they are loaded."""
