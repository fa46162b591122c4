"""All objects in memory at one revision, with the indexes that decisions need. PURE (no clock, no
IO; mutable).

One owner mutates it, through `apply` (decisions, loads) and `observe` (agents' reports); all other
code reads. Every index is maintained incrementally: the cost of a change does not grow with the
number of objects. Iteration orders are insertion orders, so the same history gives the same
decisions.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from operator import attrgetter
from typing import Any, cast

import numpy as np

from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NetworkId, NodeId, ServiceId, TaskId
from pyswarm_core.indexes.dependents import Dependents, is_held_whole
from pyswarm_core.indexes.endpoints import NO_ENDPOINT, EndpointIndex
from pyswarm_core.indexes.joined import JoinedNetworks, networks_left
from pyswarm_core.indexes.layers import KeptLayers
from pyswarm_core.indexes.nodes import NodeTable
from pyswarm_core.indexes.payloads import PAYLOAD_KINDS, PayloadVersions, put_payload
from pyswarm_core.indexes.sources import BindSources
from pyswarm_core.indexes.tasks import (
    NO_FOOTPRINT,
    Footprint,
    IdleBlocks,
    ServiceTasks,
    Unplaced,
    drop,
    footprint_of,
    split,
)
from pyswarm_core.indexes.tokens import TokenOwners
from pyswarm_core.indexes.volumes import Copies
from pyswarm_core.keys import ChunkKey, chunk_of
from pyswarm_core.kinds import (
    KINDS,
    NETWORK,
    NODE,
    SERVICE,
    USER,
    VOLUME,
    Id,
    Item,
    Kind,
    ObjectName,
    kind_of,
    split_name,
)
from pyswarm_core.limits import CHUNK_SLOTS
from pyswarm_core.objects import Cluster, Network, Node, Object, Service, Task, TaskStatus, reported
from pyswarm_core.states import TaskState, ends_by_itself, is_terminal, occupies, reported_by_agent

_RUNNING = TaskState.RUNNING
_ASSIGNED = TaskState.ASSIGNED
_service_id = attrgetter("service_id")

_Loads = dict[NodeId, list[int]]
"""By node, the change in numbers of desired and active tasks, and of reserved resources."""

_NO_TASKS = ServiceTasks()
_NO_NODE_TASKS: Mapping[TaskId, Task] = {}


class State:
    """The state index."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._objects: dict[str, dict[str, Any]] = {name: {} for name in KINDS}
        self._names: dict[str, dict[str, Any]] = {name: {} for name in KINDS}
        self.nodes = self.of(NODE)
        self.services = self.of(SERVICE)
        self.networks = self.of(NETWORK)
        self.token_owners = TokenOwners()
        self.tasks: dict[TaskId, Task] = {}
        self.unreadable: dict[str, str] = {}
        """Values of the store that could not be read, by object name, and why. They can be removed.
        """
        self.node_table = NodeTable()
        self.node_of_number: dict[int, NodeId] = {}
        self.service_of_name = self.ids_of_names(SERVICE)
        self.network_of_name = self.ids_of_names(NETWORK)
        self.unplaced = Unplaced(self.services)
        self.global_services: dict[ServiceId, None] = {}
        self.layers = KeptLayers()
        self.dependents = Dependents()
        self.copies = Copies()
        self.payloads = {name: PayloadVersions() for name in PAYLOAD_KINDS}
        self.sources = BindSources(self.node_table)
        self.tasks_in_state = [0] * len(TaskState)
        self._of_service: dict[ServiceId, ServiceTasks] = {}
        self._of_node: defaultdict[NodeId, dict[TaskId, Task]] = defaultdict(dict)
        self._footprints: dict[tuple[ServiceId, int], Footprint] = {}
        self.lost_nodes: dict[NodeId, int] = {}
        """Nodes that do not exist, and how many of their tasks did not end by themselves."""
        self.network_load: dict[NetworkId, dict[NodeId, int]] = {}
        """How many tasks that occupy a node are on each network, by node."""
        self.idle_blocks = IdleBlocks(self.node_of_number, self.node_table, self.network_load)
        self._joined = JoinedNetworks(self.network_load, self._refresh_blocks)
        self.roomier: dict[NetworkId, int] = {}
        """Networks in which an address was released, each with the node table's version at that
        time, the latest last.
        """
        self.ingress_network: NetworkId | None = None
        """The ingress network, if there is one."""
        self._endpoints = EndpointIndex()
        self.virtual_ips = self._endpoints.virtual_ips
        """The service of each virtual address of a network; addresses as numbers."""
        self.published = self._endpoints.published
        """The services that publish a port, in either mode, unless the agent chooses its number."""

    def of(self, kind: Kind[Item, Id]) -> dict[Id, Item]:
        """The objects of a kind by their ids."""
        return cast(dict[Id, Item], self._objects[kind.name])

    def ids_of_names(self, kind: Kind[Item, Id]) -> dict[str, Id]:
        """The id of the object with each unique name of a kind."""
        return cast(dict[str, Id], self._names[kind.name])

    def tasks_of_service(self, service_id: ServiceId) -> ServiceTasks:
        """The service's tasks by slot; empty if it has none."""
        return self._of_service.get(service_id, _NO_TASKS)

    def tasks_of_node(self, node_id: NodeId) -> Mapping[TaskId, Task]:
        """Every stored task of that node, with ended ones; a removed node may still have some."""
        return self._of_node.get(node_id, _NO_NODE_TASKS)

    def footprint(self, task: Task) -> Footprint:
        """What the task takes of its node; nothing if its template is no longer stored."""
        key = (task.service_id, task.spec_version)
        found = self._footprints.get(key)
        if found is None:
            service = self.services.get(task.service_id)
            spec = service.made_from(task.spec_version) if service else None
            if spec is None:
                return NO_FOOTPRINT
            found = self._footprints[key] = footprint_of(spec)
        return found

    def networks_left(self, task: Task) -> tuple[NetworkId, ...]:
        """The networks that a container was disconnected from, and its task may still be on."""
        return self._joined.left(task.id)

    def apply(self, writes: Writes) -> set[ChunkKey]:
        """Apply the writes; return the chunks whose content changed."""
        if writes.cluster is not None:
            self.cluster = writes.cluster
        for item in writes.objects:
            self._put(item)
        chunks = self._put_tasks(writes.tasks)
        for task_id in writes.removed_tasks:
            task = self.tasks[task_id]
            self._forget_task(task)
            chunks.add(chunk_of(task.service_id, task.slot))
        for name in writes.removed:
            self._remove(name)
        return chunks

    def observe(self, node_id: NodeId, statuses: Iterable[TaskStatus], now: Instant) -> list[Task]:
        """Apply an agent's report on its own tasks; return the changed tasks.

        Reports of unknown tasks, of other nodes' tasks, of tasks that wait for room on the node,
        and reports that would move a state back are ignored.
        """
        changed: list[Task] = []
        ended: list[Task] = []
        for status in statuses:
            old = self.tasks.get(status.task_id)
            if old is None or old.node_id != node_id or not reported_by_agent(status.state):
                continue
            if status.state < old.state or old.state < _ASSIGNED or is_terminal(old.state):
                continue
            if status.state == old.state and status.detail == old.detail:
                continue
            task = reported(old, status, now)
            changed.append(task)
            if task.state <= _RUNNING:
                self._put_living(old, task)
            else:
                ended.append(task)
        self._put_tasks(ended)
        return changed

    def _put_living(self, old: Task, task: Task) -> None:
        """Put a task whose agent reported another state before its end, or other details. That
        changes no more: the task keeps its node, which it occupies before and after.
        """
        self.tasks[task.id] = self._of_node[task.node_id][task.id] = task
        self.tasks_in_state[old.state] -= 1
        self.tasks_in_state[task.state] += 1
        group = self._of_service[task.service_id]
        group.put_living(old, task, self.cluster.spec.history_kept)
        if self._joined.left(task.id) and self._count_left(task, 1):
            self.node_table.free(task.node_id)

    def _put(self, item: Object) -> None:
        kind = kind_of(item)
        objects = self._objects[kind.name]
        old = objects.get(item.id)
        objects[item.id] = item
        if (index := _INDEXES.get(kind.name)) is not None:
            try:
                index(self, item.id, old, item)
            except Exception:  # a damaged object is left out, or stays as it was
                if old is None:
                    del objects[item.id]
                else:
                    objects[item.id] = old
                raise
        self._rename(kind, old, item)

    def _remove(self, name: ObjectName) -> None:
        """Remove an object. One that could not be read has nothing but its name."""
        kind_name, object_id = split_name(name)
        is_unreadable = self.unreadable.pop(name, None) is not None
        old = None if is_unreadable else self._objects[kind_name].pop(object_id)
        self._rename(KINDS[kind_name], old, None)
        if (index := _INDEXES.get(kind_name)) is not None:
            index(self, object_id, old, None)

    def _rename(self, kind: Kind[Any, Any], old: Object | None, new: Object | None) -> None:
        names = self._names[kind.name]
        before = kind.unique_name(old) if old is not None else None
        after = kind.unique_name(new) if new is not None else None
        if old is not None and before is not None and before != after:
            drop(names, before, old.id)
        if new is not None and after is not None:
            names[after] = new.id

    def _index_node(self, node_id: NodeId, old: Node | None, node: Node | None) -> None:
        if node is not None:
            self._index_put_node(node)
        elif old is not None:
            for task in self.tasks_of_node(node_id).values():
                self._count_lost(task, 1)
            drop(self.node_of_number, old.number, node_id)
            self.node_table.remove(node_id)
            self.sources.forget(node_id)
            self.idle_blocks.put_node(old.number)

    def _index_put_node(self, node: Node) -> None:
        self.node_of_number[node.number] = node.id
        row = self.node_table.rows.get(node.id)
        was_ready = row is not None and bool(self.node_table.ready[row])
        row = self.node_table.put(node)
        self.lost_nodes.pop(node.id, None)
        if was_ready != self.node_table.ready[row]:
            self.idle_blocks.put_node(node.number)

    def _index_network(
        self, network_id: NetworkId, old: Network | None, network: Network | None
    ) -> None:
        if network is not None and old is not None and len(network.blocks) < len(old.blocks):
            self._make_room(network_id)
        gone, came = self.idle_blocks.put_network(network_id, old, network)
        if network is None:
            self.roomier.pop(network_id, None)
            if network_id == self.ingress_network:
                self.ingress_network = None
            return
        if gone:  # tasks that wait for a node to have addresses may wait for one of these
            for number in dict.fromkeys(block.node_number for block in came):
                self.node_table.free(self.node_of_number.get(number, NodeId("")))
        if network.spec.ingress:
            self.ingress_network = network_id

    def _make_room(self, network_id: NetworkId) -> None:
        self.node_table.version += 1
        self.roomier.pop(network_id, None)
        self.roomier[network_id] = self.node_table.version

    def _index_service(
        self, service_id: ServiceId, old: Service | None, service: Service | None
    ) -> None:
        self.layers.put(service_id, old, service)
        self.dependents.put(old, service)
        self.copies.put_service(service_id, old, service)
        self.sources.put(service_id, old, service)
        had = old.endpoint if old is not None else NO_ENDPOINT
        has = service.endpoint if service is not None else NO_ENDPOINT
        for network_id in self._endpoints.put(service_id, had, has):
            if network_id in self.networks:
                self._make_room(network_id)
        if service is None:
            remaining = self._of_service.pop(service_id, None)
            assert old is None or remaining is None or not remaining.slots, (
                "a service was removed before its tasks"
            )
            self.unplaced.discard(service_id)
            self.global_services.pop(service_id, None)
            for key in [key for key in self._footprints if key[0] == service_id]:
                del self._footprints[key]
            return
        if (group := self._of_service.get(service_id)) is not None:
            group.expect(service)
            if service.spec.mode.is_container:
                self._rejoin(service, group)
            self._update_unplaced(service_id, group, service.updated_at)
        self.unplaced.respecified(service_id)
        if service.spec.mode.per_node:
            self.global_services[service_id] = None
        else:
            self.global_services.pop(service_id, None)

    def _rejoin(self, container: Service, group: ServiceTasks) -> None:
        """Count the container's task on the networks that it joins now."""
        known = self._footprints
        before = {key: known.pop(key) for key in [key for key in known if key[0] == container.id]}
        for task in [task for task in group if _ASSIGNED <= task.state <= _RUNNING]:
            old = before.get((task.service_id, task.spec_version), NO_FOOTPRINT).networks
            self._joined.add(self.footprint(task).networks, (task.node_id,))
            self._count_left(task, 1)
            self._joined.count(old, task.node_id, -1)

    def _count_left(self, task: Task, sign: int) -> bool:
        """Count a container's task on the networks that it is leaving, or no more; returns whether
        it has left one.
        """
        service = self.services.get(task.service_id) if sign > 0 else None
        joined = self.footprint(task).networks
        left = networks_left(service, task, joined) if service is not None else []
        return self._joined.set_left(task, [one for one in left if one in self.networks])

    def _put_tasks(self, tasks: Iterable[Task]) -> set[ChunkKey]:
        chunks: set[ChunkKey] = set()
        loads: _Loads = {}
        for service_id, run in groupby(tasks, _service_id):
            group = self._of_service.get(service_id)
            if group is None:
                group = ServiceTasks(self.services.get(service_id))
                self._of_service[service_id] = group
            first, others = split(group, run)
            if first:
                self._put_first(first, group)
            for task in others:
                self._put_task(task, group, loads)
            slots = (*first, *[task.slot for task in others])
            blocks = dict.fromkeys([slot // CHUNK_SLOTS for slot in slots])
            chunks.update([ChunkKey(service_id, block) for block in blocks])
        self._load_nodes(loads)
        return chunks

    def _put_first(self, first: dict[int, Task], group: ServiceTasks) -> None:
        """Put tasks of one service into slots that were empty and need no further task.

        The bulk version of `_put_task`, for nearly all tasks of a load and most tasks that a
        decision creates.
        """
        tasks = first.values()
        self.tasks.update([(task.id, task) for task in tasks])
        group.put_first(first)
        of_node = self._of_node
        for task in tasks:
            of_node[task.node_id][task.id] = task
            if task.node_id not in self.nodes:
                self._count_lost(task, 1)
        for state, count in Counter([task.state for task in tasks]).items():
            self.tasks_in_state[state] += count
        for version in dict.fromkeys([task.spec_version for task in tasks]):
            alike = [task for task in tasks if task.spec_version == version]
            self._occupy(self.footprint(alike[0]), [task.node_id for task in alike])
        if group.service is not None and group.service.spec.mode.is_container:
            for task in tasks:
                self._count_left(task, 1)

    def _occupy(self, footprint: Footprint, node_ids: list[NodeId]) -> None:
        """Count one more desired task on each of these nodes, which may repeat."""
        rows = [row for row in map(self.node_table.rows.get, node_ids) if row is not None]
        taken = np.array(rows, np.int64)
        self.node_table.occupy(taken, footprint.nano_cpus, footprint.memory_bytes)
        self.node_table.hold(taken, footprint.ports, footprint.generic, 1)
        self._joined.add(footprint.networks, node_ids)

    def _put_task(self, task: Task, group: ServiceTasks, loads: _Loads) -> None:
        old = self.tasks.get(task.id)
        held = group.slots.get(task.slot)
        if old is not None:
            self._count(old, group, -1, loads)
        self.tasks[task.id] = task
        if held is None:
            held = (task,)
        elif old is None:
            held = (*held, task)
        else:
            held = tuple([task if other.id == task.id else other for other in held])
        group.put_slot(task.slot, held, self.cluster.spec.history_kept)
        if task.node_id:
            self._of_node[task.node_id][task.id] = task
        self._count(task, group, 1, loads)
        group.regroup()
        if old is not None and occupies(old.state) and not occupies(task.state):
            self.node_table.free(old.node_id)

    def _count_lost(self, task: Task, sign: int) -> None:
        """Count a task whose node does not exist."""
        if not ends_by_itself(task.state):
            left = self.lost_nodes.get(task.node_id, 0) + sign
            if left:
                self.lost_nodes[task.node_id] = left
            else:
                del self.lost_nodes[task.node_id]

    def _count(self, task: Task, group: ServiceTasks, sign: int, loads: _Loads) -> None:
        """Count the task, or remove it from the counts; the change for its node is added to
        `loads`.
        """
        state = task.state
        self.tasks_in_state[state] += sign
        if task.node_id and task.node_id not in self.nodes:
            self._count_lost(task, sign)
        if state > _RUNNING:
            return
        group.count(task, sign)
        desired = task.desired_state <= _RUNNING
        if desired and state < _ASSIGNED:
            self._update_unplaced(task.service_id, group, task.created_at)
        if task.node_id:
            load = loads.get(task.node_id)
            if load is None:
                load = loads[task.node_id] = [0, 0, 0, 0]
            if desired or task.desired_state is TaskState.FROZEN:
                load[0] += sign
            if state >= _ASSIGNED:
                self._count_occupied(task, sign, load)
                if group.service is not None and group.service.spec.mode.is_container:
                    self._count_left(task, sign)

    def _update_unplaced(self, service_id: ServiceId, group: ServiceTasks, since: Instant) -> None:
        if group.pending and not (group.service and is_held_whole(group.service)):
            self.unplaced.add(service_id, since)
        else:
            self.unplaced.discard(service_id)

    def _count_occupied(self, task: Task, sign: int, load: list[int]) -> None:
        footprint = self._footprints.get((task.service_id, task.spec_version)) or self.footprint(
            task
        )
        load[1] += sign
        load[2] += sign * footprint.nano_cpus
        load[3] += sign * footprint.memory_bytes
        self._joined.count(footprint.networks, task.node_id, sign)
        ports, generic = footprint.ports, footprint.generic
        if (ports or generic) and (row := self.node_table.rows.get(task.node_id)) is not None:
            self.node_table.hold(np.array([row]), ports, generic, sign)

    def _refresh_blocks(self, network_id: NetworkId, node_id: NodeId) -> None:
        node = self.nodes.get(node_id)
        if node is not None:
            self.idle_blocks.refresh(network_id, node.number)

    def _load_nodes(self, loads: _Loads) -> None:
        for node_id, load in loads.items():
            if any(load):
                self.node_table.load(node_id, *load)

    def _forget_task(self, task: Task) -> None:
        group = self._of_service[task.service_id]
        loads: _Loads = {}
        self._count(task, group, -1, loads)
        self._load_nodes(loads)
        if occupies(task.state):
            self.node_table.free(task.node_id)
        del self.tasks[task.id]
        left = tuple([other for other in group.slots[task.slot] if other.id != task.id])
        if left:
            group.put_slot(task.slot, left, self.cluster.spec.history_kept)
        else:
            group.forget_slot(task.slot)
        group.regroup()
        if task.node_id:
            self._forget_on_node(task)

    def _forget_on_node(self, task: Task) -> None:
        node_tasks = self._of_node[task.node_id]
        node_tasks.pop(task.id, None)
        if not node_tasks:
            del self._of_node[task.node_id]


_INDEXES: Mapping[str, Callable[[State, Any, Any, Any], None]] = {
    NODE.name: State._index_node,
    NETWORK.name: State._index_network,
    SERVICE.name: State._index_service,
    VOLUME.name: lambda state, *change: state.copies.put(*change),
    **dict.fromkeys(PAYLOAD_KINDS, lambda state, *change: put_payload(state.payloads, *change)),
    USER.name: lambda state, *change: state.token_owners.put(*change),
}
"""The indexes of single kinds, beside names: called with an id, the old object and the new one."""
