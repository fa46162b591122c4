"""What the store says, decoded commit by commit: the ground truth that invariants look at."""

from typing import Any, cast

import msgspec

from controller.store.base import Outcome, Txn
from controller.store.memory import MemoryKv
from pyswarm_core.chunks import decode_chunk
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.keys import ChunkKey
from pyswarm_core.kinds import CLUSTER, KINDS, NETWORK, NODE, SERVICE, Id, Item, Kind, split_name
from pyswarm_core.objects import Cluster, Object, Task
from tests.fixtures.envelopes import counted_nonces
from tests.sim.controllers import KEYS
from tests.sim.process import Process

ENVELOPE = counted_nonces()


class Change(msgspec.Struct):
    """What one transaction did. Objects that are gone have no `after`."""

    process: Process
    txn: Txn
    outcome: Outcome
    revision: int
    objects: list[tuple[Kind[Any, Any], Object | None, Object | None]] = []
    tasks: list[tuple[Task | None, Task | None]] = []
    chunks: list[ChunkKey] = []

    @property
    def client(self) -> str:
        """Who made it."""
        return self.process.name

    def of(self, kind: Kind[Item, Id]) -> list[tuple[Item | None, Item | None]]:
        """The objects of a kind, before and after."""
        return [cast(Any, (old, new)) for one, old, new in self.objects if one is kind]


class View:
    """The objects that are stored now."""

    def __init__(self, kv: MemoryKv) -> None:
        self._kv = kv
        self.cluster: Cluster | None = None
        self._objects: dict[str, dict[str, Any]] = {name: {} for name in KINDS}
        self.services = self.of(SERVICE)
        self.nodes = self.of(NODE)
        self.networks = self.of(NETWORK)
        self.tasks: dict[TaskId, Task] = {}
        self.chunks: dict[ChunkKey, list[Task]] = {}

    def of(self, kind: Kind[Item, Id]) -> dict[Id, Item]:
        """The objects of a kind by their ids."""
        return cast(dict[Id, Item], self._objects[kind.name])

    def tasks_of_node(self, node_id: NodeId) -> dict[TaskId, Task]:
        """Every stored task of a node."""
        return {t.id: t for t in self.tasks.values() if t.node_id == node_id}

    def slots_of(self, service_id: ServiceId) -> dict[int, list[Task]]:
        """The service's tasks by slot, oldest first."""
        slots: dict[int, list[Task]] = {}
        for key in sorted(key for key in self.chunks if key.service_id == service_id):
            for task in self.chunks[key]:
                slots.setdefault(task.slot, []).append(task)
        return slots

    def take(self, process: Process, txn: Txn, outcome: Outcome) -> Change:
        """Follow a transaction that was applied."""
        change = Change(process, txn, outcome, self._kv.revision)
        names = [put.key for put in txn.puts] + [delete.key for delete in txn.deletes]
        for name in names:
            item = self._kv.get(name)
            self._follow(change, name, item.value if item else None)
        for name in names:  # last: a chunk names nodes by their numbers
            if name.startswith(KEYS.chunks):
                item = self._kv.get(name)
                self._follow_chunk(change, KEYS.parse_chunk(name), item.value if item else b"")
        return change

    def _follow(self, change: Change, name: bytes, value: bytes | None) -> None:
        if name == KEYS.cluster and value is not None:
            self.cluster = ENVELOPE.decode(CLUSTER, value)
        kind_name, object_id = split_name(KEYS.name_of(name))
        kind = KINDS.get(kind_name)
        if kind is None or not name.startswith(KEYS.objects(kind)):
            return
        old = self.of(kind).pop(object_id, None)
        new = None
        if value is not None:
            new = self.of(kind)[object_id] = ENVELOPE.decode(kind, value)
        change.objects.append((kind, old, new))

    def _follow_chunk(self, change: Change, key: ChunkKey, value: bytes) -> None:
        numbers = {node.number: node.id for node in self.nodes.values()}
        after = decode_chunk(key.service_id, value, numbers)
        before = {task.id: task for task in self.chunks.get(key, ())}
        for task in after:
            change.tasks.append((before.pop(task.id, None), task))
            self.tasks[task.id] = task
        for task in before.values():
            change.tasks.append((task, None))
            del self.tasks[task.id]
        if after:
            self.chunks[key] = after
        else:
            self.chunks.pop(key, None)
        change.chunks.append(key)
