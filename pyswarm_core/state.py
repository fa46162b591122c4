"""All objects in memory at one revision, with the indexes that deciding needs. PURE (no clock, no IO; mutable).

One owner mutates it, through `apply` (decisions, loads) and `observe` (agents' reports); everybody else reads. Every
index is maintained incrementally: the cost of a change does not grow with what exists. Iteration orders are
insertion orders, so the same history gives the same decisions.
"""

from collections.abc import Iterable, Mapping

from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NetworkId, NodeId, ServiceId, TaskId
from pyswarm_core.keys import ChunkKey, chunk_of
from pyswarm_core.nodetable import NodeTable
from pyswarm_core.objects import Cluster, Network, Node, Service, Task, TaskStatus
from pyswarm_core.states import TaskState, is_terminal, occupies, reported_by_agent

_RUNNING = TaskState.RUNNING
_NOTHING_RESERVED = (0, 0)


class ServiceTasks:
    """The tasks of one service. `slots` maps a slot to its tasks, oldest first."""

    __slots__ = ("pending", "running", "slots")

    def __init__(self) -> None:
        self.slots: dict[int, tuple[Task, ...]] = {}
        self.running = 0
        """Tasks that run and should."""
        self.pending = 0
        """Tasks that wait for a node."""

    def __iter__(self) -> Iterable[Task]:
        return (task for tasks in self.slots.values() for task in tasks)


_NO_TASKS = ServiceTasks()
_NO_NODE_TASKS: Mapping[TaskId, Task] = {}


def runs_as_wanted(task: Task) -> bool:
    """Whether it counts as a running replica."""
    return task.state is _RUNNING and task.desired_state <= _RUNNING


def waits_for_node(task: Task) -> bool:
    """Whether the scheduler still has to place it."""
    return task.state <= TaskState.PENDING and task.desired_state <= _RUNNING


class State:
    """The state index."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.nodes: dict[NodeId, Node] = {}
        self.services: dict[ServiceId, Service] = {}
        self.networks: dict[NetworkId, Network] = {}
        self.tasks: dict[TaskId, Task] = {}
        self.node_table = NodeTable()
        self.node_of_number: dict[int, NodeId] = {}
        self.service_of_name: dict[str, ServiceId] = {}
        self.network_of_name: dict[str, NetworkId] = {}
        self.unplaced: dict[ServiceId, None] = {}
        """Services with tasks that wait for a node, in the order in which they began to wait."""
        self.tasks_in_state = [0] * len(TaskState)
        self._of_service: dict[ServiceId, ServiceTasks] = {}
        self._of_node: dict[NodeId, dict[TaskId, Task]] = {}
        self._reserved: dict[tuple[ServiceId, int], tuple[int, int]] = {}

    def tasks_of_service(self, service_id: ServiceId) -> ServiceTasks:
        """The service's tasks by slot; empty if it has none."""
        return self._of_service.get(service_id, _NO_TASKS)

    def tasks_of_node(self, node_id: NodeId) -> Mapping[TaskId, Task]:
        """Every stored task of that node, ended ones too."""
        return self._of_node.get(node_id, _NO_NODE_TASKS)

    def reserved_by(self, task: Task) -> tuple[int, int]:
        """(billionths of CPU, bytes of memory) that the task reserves on its node."""
        key = (task.service_id, task.spec_version)
        found = self._reserved.get(key)
        if found is None:
            service = self.services.get(task.service_id)
            template = service.template(task.spec_version) if service else None
            if template is None:
                return _NOTHING_RESERVED
            reservations = template.resources.reservations
            found = self._reserved[key] = (reservations.nano_cpus, reservations.memory_bytes)
        return found

    def apply(self, writes: Writes) -> set[ChunkKey]:
        """Make the writes true; return the chunks whose content changed."""
        if writes.cluster is not None:
            self.cluster = writes.cluster
        for service in writes.services:
            self._put_service(service)
        for network in writes.networks:
            self.networks[network.id] = network
            self.network_of_name[network.spec.name] = network.id
        for node in writes.nodes:
            self.nodes[node.id] = node
            self.node_of_number[node.number] = node.id
            self.node_table.put(node)
        chunks = self._put_tasks(writes.tasks)
        for task_id in writes.removed_tasks:
            task = self.tasks[task_id]
            self._forget_task(task)
            chunks.add(chunk_of(task.service_id, task.slot))
        for service_id in writes.removed_services:
            self._remove_service(service_id)
        for network_id in writes.removed_networks:
            del self.network_of_name[self.networks.pop(network_id).spec.name]
        for node_id in writes.removed_nodes:
            self._remove_node(node_id)
        return chunks

    def observe(self, node_id: NodeId, statuses: Iterable[TaskStatus], now: Instant) -> list[Task]:
        """Take what an agent reports of its own tasks; return the tasks that changed, as they are now.

        Reports of unknown tasks, of other nodes' tasks, and reports that would move a state back are ignored.
        """
        changed: list[Task] = []
        for status in statuses:
            old = self.tasks.get(status.task_id)
            if old is None or old.node_id != node_id or not reported_by_agent(status.state):
                continue
            if status.state < old.state or is_terminal(old.state):
                continue
            if status.state == old.state and status.detail == old.detail:
                continue
            task = Task(
                old.id,
                old.service_id,
                old.slot,
                old.spec_version,
                old.created_at,
                old.node_id,
                old.desired_state,
                status.state,
                now if status.state != old.state else old.status_at,
                old.restarts,
                status.detail,
            )
            changed.append(task)
        self._put_tasks(changed)
        return changed

    def _put_service(self, service: Service) -> None:
        self.services[service.id] = service
        name = service.spec.name
        if not service.removing:
            self.service_of_name[name] = service.id
        elif self.service_of_name.get(name) == service.id:
            del self.service_of_name[name]

    def _remove_service(self, service_id: ServiceId) -> None:
        service = self.services.pop(service_id)
        if self.service_of_name.get(service.spec.name) == service_id:
            del self.service_of_name[service.spec.name]
        remaining = self._of_service.pop(service_id, None)
        assert remaining is None or not remaining.slots, "a service was removed before its tasks"
        self.unplaced.pop(service_id, None)
        for key in [key for key in self._reserved if key[0] == service_id]:
            del self._reserved[key]

    def _remove_node(self, node_id: NodeId) -> None:
        assert not self._of_node.get(node_id), "a node was removed before its tasks"
        self._of_node.pop(node_id, None)
        del self.node_of_number[self.nodes.pop(node_id).number]
        self.node_table.remove(node_id)

    def _put_tasks(self, tasks: Iterable[Task]) -> set[ChunkKey]:
        chunks: set[ChunkKey] = set()
        for task in tasks:
            old = self.tasks.get(task.id)
            if old is not None:
                self._uncount(old)
            self.tasks[task.id] = task
            group = self._of_service.get(task.service_id)
            if group is None:
                group = self._of_service[task.service_id] = ServiceTasks()
            slot = group.slots.get(task.slot)
            if slot is None:
                group.slots[task.slot] = (task,)
            elif old is None:
                group.slots[task.slot] = (*slot, task)
            else:
                group.slots[task.slot] = tuple(task if t.id == task.id else t for t in slot)
            if task.node_id:
                node_tasks = self._of_node.get(task.node_id)
                if node_tasks is None:
                    node_tasks = self._of_node[task.node_id] = {}
                node_tasks[task.id] = task
            self._count(task, group)
            chunks.add(chunk_of(task.service_id, task.slot))
        return chunks

    def _count(self, task: Task, group: ServiceTasks) -> None:
        self.tasks_in_state[task.state] += 1
        if runs_as_wanted(task):
            group.running += 1
        elif waits_for_node(task):
            group.pending += 1
            self.unplaced[task.service_id] = None
        if occupies(task.state):
            self._occupy(task, 1)

    def _uncount(self, task: Task) -> None:
        group = self._of_service[task.service_id]
        self.tasks_in_state[task.state] -= 1
        if runs_as_wanted(task):
            group.running -= 1
        elif waits_for_node(task):
            group.pending -= 1
            if not group.pending:
                self.unplaced.pop(task.service_id, None)
        if occupies(task.state):
            self._occupy(task, -1)

    def _occupy(self, task: Task, sign: int) -> None:
        table = self.node_table
        row = table.rows.get(task.node_id)
        if row is None:
            return
        table.active_tasks[row] += sign
        cpus, memory = self.reserved_by(task)
        if cpus:
            table.reserved_cpus[row] += sign * cpus
        if memory:
            table.reserved_memory[row] += sign * memory

    def _forget_task(self, task: Task) -> None:
        self._uncount(task)
        del self.tasks[task.id]
        group = self._of_service[task.service_id]
        left = tuple(other for other in group.slots[task.slot] if other.id != task.id)
        if left:
            group.slots[task.slot] = left
        else:
            del group.slots[task.slot]
        if task.node_id:
            self._of_node[task.node_id].pop(task.id, None)
