"""What the store says, decoded commit by commit: the ground truth that invariants look at."""

import msgspec

from controller.store.base import Outcome, Txn
from controller.store.memory import MemoryKv
from pyswarm_core.api.v1 import objects_pb2
from pyswarm_core.chunks import decode_chunk
from pyswarm_core.codec import from_proto
from pyswarm_core.ids import NetworkId, NodeId, ServiceId, TaskId
from pyswarm_core.keys import ChunkKey
from pyswarm_core.objects import Cluster, Network, Node, Service, Task
from tests.sim.controllers import KEYS
from tests.sim.process import Process


class Change(msgspec.Struct):
    """What one transaction did. Objects that are gone have no `after`."""

    process: Process
    txn: Txn
    outcome: Outcome
    revision: int
    services: list[tuple[Service | None, Service | None]] = []
    nodes: list[tuple[Node | None, Node | None]] = []
    networks: list[tuple[Network | None, Network | None]] = []
    tasks: list[tuple[Task | None, Task | None]] = []
    chunks: list[ChunkKey] = []

    @property
    def client(self) -> str:
        """Who made it."""
        return self.process.name


class View:
    """The objects that are stored now."""

    def __init__(self, kv: MemoryKv) -> None:
        self._kv = kv
        self.cluster: Cluster | None = None
        self.services: dict[ServiceId, Service] = {}
        self.nodes: dict[NodeId, Node] = {}
        self.networks: dict[NetworkId, Network] = {}
        self.tasks: dict[TaskId, Task] = {}
        self.chunks: dict[ChunkKey, list[Task]] = {}

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
            self.cluster = from_proto(Cluster, objects_pb2.Cluster.FromString(value))
        elif name.startswith(KEYS.services):
            service_id = ServiceId(name[len(KEYS.services) :].decode())
            old_service = self.services.pop(service_id, None)
            service = None
            if value is not None:
                service = from_proto(Service, objects_pb2.Service.FromString(value))
                self.services[service_id] = service
            change.services.append((old_service, service))
        elif name.startswith(KEYS.nodes):
            node_id = NodeId(name[len(KEYS.nodes) :].decode())
            old_node = self.nodes.pop(node_id, None)
            node = None
            if value is not None:
                node = self.nodes[node_id] = from_proto(Node, objects_pb2.Node.FromString(value))
            change.nodes.append((old_node, node))
        elif name.startswith(KEYS.networks):
            network_id = NetworkId(name[len(KEYS.networks) :].decode())
            old_network = self.networks.pop(network_id, None)
            network = None
            if value is not None:
                network = from_proto(Network, objects_pb2.Network.FromString(value))
                self.networks[network_id] = network
            change.networks.append((old_network, network))

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
