"""How many tasks are on each network, by node. PURE (mutable: only `State` changes it).

A task is on the networks of its spec, from when it has a node until it has ended. The networks of a
container change while its task runs: the task is on a network that it leaves, too, until its agent
reports that it has the networks of a later spec.
"""

from collections.abc import Callable, Collection, Iterable

from pyswarm_core.ids import NetworkId, NodeId, TaskId
from pyswarm_core.objects import Service, Task
from pyswarm_core.specs import PREDEFINED_NETWORKS

NetworkLoad = dict[NetworkId, dict[NodeId, int]]


def networks_left(service: Service, task: Task, joined: Collection[NetworkId]) -> list[NetworkId]:
    """The networks that a container's task may be on beside those that it has joined: of the specs
    since the one that its agent has acknowledged, and those on which it has addresses.
    """
    known = max(task.spec_version, task.detail.in_place_version)
    found = [one.network_id for one in task.detail.addresses]
    found = [one for one in found if one not in PREDEFINED_NETWORKS]
    if known < service.spec_version:
        found += service.spec.task_template.overlays
        for previous in service.previous_specs:
            found += previous.spec.task_template.overlays
            if previous.version <= known:
                break
    return [one for one in dict.fromkeys(found) if one not in joined]


class JoinedNetworks:
    """Counts tasks into `load`. `changed` is called when a node got its first task on a network, or
    has none left.
    """

    def __init__(self, load: NetworkLoad, changed: Callable[[NetworkId, NodeId], None]) -> None:
        self._load = load
        self._changed = changed
        self._left: dict[TaskId, tuple[NetworkId, ...]] = {}

    def add(self, networks: Iterable[NetworkId], node_ids: Iterable[NodeId]) -> None:
        """Count one more task on these networks on each of the nodes, which may repeat."""
        for network_id in networks:
            on_network = self._load.setdefault(network_id, {})
            for node_id in node_ids:
                before = on_network.get(node_id, 0)
                on_network[node_id] = before + 1
                if not before:
                    self._changed(network_id, node_id)

    def count(self, networks: Iterable[NetworkId], node_id: NodeId, sign: int) -> None:
        """Count one task more, or less, on these networks of the node."""
        if sign > 0:
            self.add(networks, (node_id,))
            return
        for network_id in networks:
            on_network = self._load[network_id]
            on_network[node_id] -= 1
            if not on_network[node_id]:
                del on_network[node_id]
                self._changed(network_id, node_id)

    def left(self, task_id: TaskId) -> tuple[NetworkId, ...]:
        """The networks that the task leaves, and is still on."""
        return self._left.get(task_id, ())

    def set_left(self, task: Task, networks: Iterable[NetworkId]) -> bool:
        """The task may still be on these networks, which its spec does not name. Returns whether
        it is no more on one of those before.
        """
        before, now = self.left(task.id), tuple(networks)
        if before == now:
            return False
        self.count((n for n in now if n not in before), task.node_id, 1)
        gone = [n for n in before if n not in now]
        self.count(gone, task.node_id, -1)
        if now:
            self._left[task.id] = now
        else:
            del self._left[task.id]
        return bool(gone)
