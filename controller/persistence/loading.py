"""The whole state, read from the store at one revision. SHELL over the store.

Chunks are read in buckets (one per first letter of the service's id), several at a time: one huge
prefix would be paged in quadratic time. What was read is decoded and goes into the state in short
slices, one at a time, so that others run meanwhile.
"""

import asyncio
import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec
from google.protobuf.message import Message

from controller.nodestate import moved
from controller.persistence.saving import Breathe, Unsaved, pause
from controller.store.base import Compacted, KeyValue, Store
from pyswarm_core.api.v1 import objects_pb2
from pyswarm_core.chunks import decode_chunk
from pyswarm_core.clock import Instant
from pyswarm_core.codec import from_proto
from pyswarm_core.decision import Writes
from pyswarm_core.ids import ID_ALPHABET
from pyswarm_core.keys import Keys
from pyswarm_core.objects import Cluster, Network, Node, Service, Task
from pyswarm_core.state import State
from pyswarm_core.states import NodeState

S = TypeVar("S", bound=msgspec.Struct)

BUCKETS_IN_FLIGHT = 4
SLICE_TASKS = 5_000
SLICE_OBJECTS = 1_000
ATTEMPTS = 5


class Loaded(msgspec.Struct, frozen=True):
    """The state, and what of it the store does not have yet (a new cluster, leftovers to drop)."""

    state: State
    revision: int
    unsaved: Unsaved


async def load(
    store: Store,
    keys: Keys,
    first: Callable[[], Cluster],
    now: Instant,
    breathe: Breathe = pause,
) -> Loaded:
    """Read everything; a store without a cluster gets the one that `first` makes. Between slices
    of work `breathe` is awaited.

    Nodes that were ready come back as unknown since `now`: this leader has not heard of them yet.
    """
    was_enabled = gc.isenabled()
    gc.disable()  # nothing that is loaded is garbage, and a million new objects would be searched
    try:
        for _ in range(ATTEMPTS - 1):
            try:
                return await _load(store, keys, first, now, breathe)
            except Compacted:
                continue
        return await _load(store, keys, first, now, breathe)
    finally:
        if was_enabled:
            gc.enable()


async def _load(
    store: Store, keys: Keys, first: Callable[[], Cluster], now: Instant, breathe: Breathe
) -> Loaded:
    found = await store.read(keys.cluster)
    unsaved = Unsaved()
    unsaved.cluster = not found.items
    clusters = await _decode(found.items, Cluster, objects_pb2.Cluster, breathe)
    state = State(clusters[0] if clusters else first())
    revision = found.revision
    nodes, services, networks = await asyncio.gather(
        store.read(keys.nodes, revision),
        store.read(keys.services, revision),
        store.read(keys.networks, revision),
    )
    heard = await _decode(nodes.items, Node, objects_pb2.Node, breathe)
    state.apply(
        Writes(
            nodes=tuple(_unheard(node, now) for node in heard),
            services=tuple(await _decode(services.items, Service, objects_pb2.Service, breathe)),
            networks=tuple(await _decode(networks.items, Network, objects_pb2.Network, breathe)),
        )
    )
    buckets = iter(ID_ALPHABET)
    taking = asyncio.Lock()

    async def work() -> None:
        for letter in buckets:
            bucket = await store.read(keys.chunks + letter.encode(), revision)
            async with taking:
                for tasks in _slices(bucket.items, state, keys, unsaved):
                    state.apply(Writes(tasks=tasks))
                    await breathe()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(BUCKETS_IN_FLIGHT):
                group.create_task(work())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return Loaded(state, revision, unsaved)


def _slices(
    items: Iterable[KeyValue], state: State, keys: Keys, unsaved: Unsaved
) -> Iterator[list[Task]]:
    """The chunks' tasks, about SLICE_TASKS at a time; chunks of no service are to be dropped."""
    tasks: list[Task] = []
    for item in items:
        key = keys.parse_chunk(item.key)
        if key.service_id not in state.services:
            unsaved.chunks[key] = None
            continue
        tasks += decode_chunk(key.service_id, item.value, state.node_of_number)
        if len(tasks) >= SLICE_TASKS:
            yield tasks
            tasks = []
    yield tasks


async def _decode(
    items: Sequence[KeyValue], cls: type[S], message: type[Message], breathe: Breathe
) -> list[S]:
    decoded: list[S] = []
    for start in range(0, len(items), SLICE_OBJECTS):
        part = items[start : start + SLICE_OBJECTS]
        decoded += [from_proto(cls, message.FromString(item.value)) for item in part]
        await breathe()
    return decoded


def _unheard(node: Node, now: Instant) -> Node:
    if node.status.state is NodeState.READY:
        return moved(node, NodeState.UNKNOWN, now)
    if node.status.since:
        return node
    # Stored by a version that kept no such time; it wrote `updated_at` with the state.
    status = msgspec.structs.replace(node.status, since=node.updated_at)
    return msgspec.structs.replace(node, status=status)
