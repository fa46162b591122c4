"""What a node is told: the whole of what it should run, or what changed of it. PURE.

An agent holds every stored task of its node, ended ones too. Overlays go to the nodes that have a
task on them which has not ended. Tasks name their template by index; a
template is serialized once per service and spec version and sent as bytes.
"""

from collections.abc import Iterable, Mapping

from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.columns import pack_ids
from pyswarm_core.ids import NetworkId, NodeId, ServiceId, TaskId
from pyswarm_core.objects import Network, Node, Task
from pyswarm_core.state import State
from pyswarm_core.states import TaskState, occupies

TEMPLATES_KEPT = 4_096
"""Serialized templates remembered; beyond that the oldest are made again when needed."""


class Templates:
    """Serialized task templates. A cache: what a spec version's template says never changes."""

    def __init__(self) -> None:
        self._made: dict[tuple[ServiceId, int], bytes] = {}

    def template(self, state: State, service_id: ServiceId, spec_version: int) -> bytes:
        """A TaskTemplate message. Without a spec if that version is no longer kept: an agent that
        holds such a task has its own record of it."""
        key = (service_id, spec_version)
        made = self._made.get(key)
        if made is None:
            if len(self._made) >= TEMPLATES_KEPT:
                del self._made[next(iter(self._made))]
            made = self._made[key] = _template(state, service_id, spec_version)
        return made


def full_assignments(
    state: State, node_id: NodeId, templates: Templates, revision: int
) -> dispatcher_pb2.Assignments:
    """Everything the node should know; what is not named is not wanted."""
    message = dispatcher_pb2.Assignments(full=True, revision=revision)
    _add_tasks(message, state, state.tasks_of_node(node_id).values(), templates)
    for network_id in networks_of_node(state, node_id):
        _add_overlay(message, state, network_id, node_id)
    return message


def changed_assignments(
    state: State,
    node_id: NodeId,
    changes: "Changes",
    templates: Templates,
    revision: int,
) -> dispatcher_pb2.Assignments:
    """What the node should know of the tasks and networks that changed; the rest stays."""
    message = dispatcher_pb2.Assignments(revision=revision)
    own = state.tasks_of_node(node_id)
    _add_tasks(message, state, [own[i] for i in changes.tasks if i in own], templates)
    message.removed_ids = pack_ids(i for i in changes.tasks if i not in own)
    sent = changes.overlays_sent
    if changes.overlays_may_differ:
        wanted = networks_of_node(state, node_id)
        message.removed_overlays.extend(i for i in sent if i not in wanted)
    else:
        wanted = _networks_of_tasks(state, (own[i] for i in changes.tasks if i in own))
    for network_id in wanted:
        if network_id in changes.networks or network_id not in sent:
            _add_overlay(message, state, network_id, node_id)
    return message


class Changes:
    """What a session has to be told next. Mutable; bounded by its owner."""

    def __init__(self, overlays_sent: Iterable[NetworkId] = ()) -> None:
        self.tasks: dict[TaskId, None] = {}
        self.networks: dict[NetworkId, None] = {}
        self.overlays_may_differ = False
        """A task with networks ended, or networks changed."""
        self.overlays_sent = dict.fromkeys(overlays_sent)
        """What the node was told of before."""

    def __bool__(self) -> bool:
        return bool(self.tasks or self.networks or self.overlays_may_differ)


def networks_of_node(state: State, node_id: NodeId) -> dict[NetworkId, None]:
    """The networks that the node's unfinished tasks use."""
    return _networks_of_tasks(state, state.tasks_of_node(node_id).values())


def _networks_of_tasks(state: State, tasks: Iterable[Task]) -> dict[NetworkId, None]:
    used: dict[tuple[ServiceId, int], None] = {}
    for task in tasks:
        if occupies(task.state):
            used[task.service_id, task.spec_version] = None
    found: dict[NetworkId, None] = {}
    for service_id, spec_version in used:
        found.update(dict.fromkeys(networks_of(state, service_id, spec_version)))
    return {network_id: None for network_id in found if network_id in state.networks}


def networks_of(state: State, service_id: ServiceId, spec_version: int) -> list[NetworkId]:
    """The networks that such tasks join."""
    service = state.services.get(service_id)
    template = service.template(spec_version) if service else None
    return [NetworkId(network.target) for network in template.networks] if template else []


def _template(state: State, service_id: ServiceId, spec_version: int) -> bytes:
    message = dispatcher_pb2.TaskTemplate(service_id=service_id, spec_version=spec_version)
    service = state.services.get(service_id)
    if service is None:
        return message.SerializeToString(deterministic=True)
    setattr(message, "global", service.spec.mode.global_ is not None)
    message.service_name = service.spec.name
    message.service_labels.update(service.spec.labels)
    if (template := service.template(spec_version)) is not None:
        message.spec.SetInParent()
        to_proto(template, message.spec)
    if service.registry_login is not None:
        to_proto(service.registry_login, message.registry_login)
    return message.SerializeToString(deterministic=True)


def _add_tasks(
    message: dispatcher_pb2.Assignments, state: State, tasks: Iterable[Task], templates: Templates
) -> None:
    indexes: dict[tuple[ServiceId, int], int] = {}
    index_of_task: list[int] = []
    ids: list[TaskId] = []
    slots: list[int] = []
    desired = bytearray()
    for task in tasks:
        if task.state < TaskState.ASSIGNED:
            continue  # bound to this node, but it has no room for it yet
        index_of_task.append(indexes.setdefault((task.service_id, task.spec_version), len(indexes)))
        ids.append(task.id)
        slots.append(task.slot)
        desired.append(task.desired_state)
    message.templates.extend(templates.template(state, *key) for key in indexes)
    message.ids = pack_ids(ids)
    message.slots.extend(slots)
    message.template_index.extend(index_of_task)
    message.desired_states = bytes(desired)


def _add_overlay(
    message: dispatcher_pb2.Assignments, state: State, network_id: NetworkId, node_id: NodeId
) -> None:
    network = state.networks[network_id]
    node = state.nodes[node_id]
    overlay = message.overlays.add(
        network_id=network.id,
        name=network.spec.name,
        vni=network.vni,
        subnet=network.subnet,
        mtu=network.spec.mtu,
        internal=network.spec.internal,
        node_number=node.number,
    )
    for number, blocks in _blocks_by_node(network).items():
        if number == node.number:
            overlay.local_blocks.extend(blocks)
        elif (peer := _node_of_number(state, number)) is not None:
            overlay.peers.add(node_number=number, addr=peer.status.addr, blocks=blocks)


def _blocks_by_node(network: Network) -> Mapping[int, list[str]]:
    found: dict[int, list[str]] = {}
    for block in network.blocks:
        found.setdefault(block.node_number, []).append(block.cidr)
    return found


def _node_of_number(state: State, number: int) -> Node | None:
    node_id = state.node_of_number.get(number)
    return None if node_id is None else state.nodes.get(node_id)
