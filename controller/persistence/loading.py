"""The whole state, read from the store at one revision. SHELL over the store.

Chunks are read in buckets (one per first letter of the service's id), several at a time: one huge
prefix would be paged in quadratic time. What is decoded goes into the state in slices, so that the
lease is renewed meanwhile.
"""

import asyncio
import gc
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec
from google.protobuf.message import Message

from controller.persistence.saving import Breathe, Unsaved, pause
from controller.store.base import Compacted, KeyValue, Store
from pyswarm_core.api.v1 import objects_pb2
from pyswarm_core.chunks import decode_chunk
from pyswarm_core.codec import from_proto
from pyswarm_core.decision import Writes
from pyswarm_core.ids import ID_ALPHABET
from pyswarm_core.keys import Keys
from pyswarm_core.objects import Cluster, Network, Node, Service, Task
from pyswarm_core.state import State
from pyswarm_core.states import NodeState

S = TypeVar("S", bound=msgspec.Struct)

BUCKETS_IN_FLIGHT = 4
SLICE_TASKS = 20_000
ATTEMPTS = 5


class Loaded(msgspec.Struct, frozen=True):
    """The state, and what of it the store does not have yet (a new cluster, leftovers to drop)."""

    state: State
    revision: int
    unsaved: Unsaved


async def load(
    store: Store, keys: Keys, first: Callable[[], Cluster], breathe: Breathe = pause
) -> Loaded:
    """Read everything; a store without a cluster gets the one that `first` makes. Between slices
    of work `breathe` is awaited.

    Nodes that were ready come back as unknown: this leader has not heard of them yet.
    """
    was_enabled = gc.isenabled()
    gc.disable()  # nothing that is loaded is garbage, and a million new objects would be searched
    try:
        for _ in range(ATTEMPTS - 1):
            try:
                return await _load(store, keys, first, breathe)
            except Compacted:
                continue
        return await _load(store, keys, first, breathe)
    finally:
        if was_enabled:
            gc.enable()
        gc.freeze()


async def _load(store: Store, keys: Keys, first: Callable[[], Cluster], breathe: Breathe) -> Loaded:
    found = await store.read(keys.cluster)
    unsaved = Unsaved()
    unsaved.cluster = not found.items
    clusters = _decode(found.items, Cluster, objects_pb2.Cluster)
    state = State(clusters[0] if clusters else first())
    revision = found.revision
    nodes, services, networks = await asyncio.gather(
        store.read(keys.nodes, revision),
        store.read(keys.services, revision),
        store.read(keys.networks, revision),
    )
    state.apply(
        Writes(
            nodes=tuple(map(_unheard, _decode(nodes.items, Node, objects_pb2.Node))),
            services=tuple(_decode(services.items, Service, objects_pb2.Service)),
            networks=tuple(_decode(networks.items, Network, objects_pb2.Network)),
        )
    )
    buckets = iter(ID_ALPHABET)

    async def work() -> None:
        for letter in buckets:
            bucket = await store.read(keys.chunks + letter.encode(), revision)
            await _take_in(bucket.items, state, keys, unsaved)
            await breathe()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(BUCKETS_IN_FLIGHT):
                group.create_task(work())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return Loaded(state, revision, unsaved)


async def _take_in(items: Iterable[KeyValue], state: State, keys: Keys, unsaved: Unsaved) -> None:
    tasks: list[Task] = []
    for item in items:
        key = keys.parse_chunk(item.key)
        if key.service_id not in state.services:
            unsaved.chunks[key] = None
            continue
        tasks += decode_chunk(key.service_id, item.value, state.node_of_number)
        if len(tasks) >= SLICE_TASKS:
            state.apply(Writes(tasks=tasks))
            tasks = []
            await asyncio.sleep(0)
    state.apply(Writes(tasks=tasks))


def _decode(items: Iterable[KeyValue], cls: type[S], message: type[Message]) -> list[S]:
    return [from_proto(cls, message.FromString(item.value)) for item in items]


def _unheard(node: Node) -> Node:
    if node.status.state is not NodeState.READY:
        return node
    status = msgspec.structs.replace(node.status, state=NodeState.UNKNOWN)
    return msgspec.structs.replace(node, status=status)
