"""What a node is told: the whole of what it should run, or what changed of it. PURE.

An agent holds every stored task of its node, ended ones too. Overlays, and the endpoints on them,
go to the nodes that have a task on them which has not ended; the routing mesh goes to all. Tasks
name their template by index; a template is serialized once per service and spec version and sent as
bytes, an endpoint once per change. A task that is withheld is told as if it should go on.
"""

from collections.abc import Container, Iterable, Mapping

import msgspec

from controller.endpoints.sets import EndpointKey, Endpoints
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.columns import pack_ids
from pyswarm_core.errors import told
from pyswarm_core.ids import NetworkId, NodeId, ServiceId, TaskId
from pyswarm_core.objects import Network, Node, Task
from pyswarm_core.state import State
from pyswarm_core.states import TaskState, occupies

TEMPLATES_KEPT = 4_096
"""Serialized templates remembered; beyond that the oldest are made again when needed."""


class Templates:
    """Serialized task templates. A cache: what a spec version's template says never changes."""

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}
        """Services without a template, as `service/<id>`, and why."""
        self._made: dict[tuple[ServiceId, int], bytes] = {}

    def template(self, state: State, service_id: ServiceId, spec_version: int) -> bytes:
        """A TaskTemplate message. Without a spec if that version is no longer kept: an agent that
        holds such a task has its own record of it."""
        key = (service_id, spec_version)
        made = self._made.get(key)
        if made is None:
            if len(self._made) >= TEMPLATES_KEPT:
                del self._made[next(iter(self._made))]
            try:
                made = _template(state, service_id, spec_version)
            except Exception as error:
                # Only the tasks of this service suffer: their agents cannot make new ones.
                self.failed[f"service/{service_id}"] = told(error)
                bare = dispatcher_pb2.TaskTemplate(service_id=service_id, spec_version=spec_version)
                made = bare.SerializeToString(deterministic=True)
            self._made[key] = made
        return made


class Source(msgspec.Struct, frozen=True):
    """What messages are made of."""

    state: State
    endpoints: Endpoints
    templates: Templates
    withheld: Container[TaskId] = ()
    """Tasks that are to stop once nodes no longer send connections to them."""

    @property
    def failed(self) -> dict[str, str]:
        """Services that nodes cannot be told of, as `service/<id>`, and why."""
        return self.endpoints.failed | self.templates.failed


def full_assignments(source: Source, node_id: NodeId, revision: int) -> dispatcher_pb2.Assignments:
    """Everything the node should know; what is not named is not wanted any more."""
    state, endpoints = source.state, source.endpoints
    message = dispatcher_pb2.Assignments(full=True, revision=revision)
    _add_tasks(message, source, state.tasks_of_node(node_id).values())
    for network_id in networks_of_node(source, node_id):
        _add_overlay(message, source, network_id, node_id)
        _add_endpoints(message, endpoints, endpoints.on_network(network_id))
    return message


def changed_assignments(
    source: Source, node_id: NodeId, changes: "Changes", revision: int
) -> dispatcher_pb2.Assignments:
    """What the node should know of the tasks, networks and endpoints that changed; the rest
    stays.
    """
    state, endpoints = source.state, source.endpoints
    message = dispatcher_pb2.Assignments(revision=revision)
    own = state.tasks_of_node(node_id)
    changed = [own[i] for i in changes.tasks if i in own]
    _add_tasks(message, source, changed)
    message.removed_ids = pack_ids(i for i in changes.tasks if i not in own)
    sent = changes.overlays_sent
    gone: list[NetworkId] = []
    if changes.overlays_may_differ:
        wanted = networks_of_node(source, node_id)
        gone = [i for i in sent if i not in wanted]
    else:
        wanted = _networks_of_tasks(source, changed)
    news = [key for key in endpoints.changed_since(changes.sequence) if key[1] in sent]
    _add_endpoints(message, endpoints, (key for key in news if key[1] not in gone))
    _remove_endpoints(message, (key for key in news if key[1] in gone))
    for network_id in wanted:
        if network_id in changes.networks or network_id not in sent:
            _add_overlay(message, source, network_id, node_id)
        if network_id not in sent:
            _add_endpoints(message, endpoints, endpoints.on_network(network_id))
    for network_id in gone:
        message.removed_overlays.append(network_id)
        _remove_endpoints(message, endpoints.on_network(network_id))
    return message


class Changes:
    """What a session has to be told next. Mutable; bounded by its owner."""

    def __init__(self, overlays_sent: Iterable[NetworkId] = (), sequence: int = 0) -> None:
        self.tasks: dict[TaskId, None] = {}
        self.networks: dict[NetworkId, None] = {}
        self.overlays_may_differ = False
        """A task with networks ended, or networks changed."""
        self.endpoints = False
        """Some changed, perhaps none that it knows of: it shall acknowledge all the same."""
        self.overlays_sent = dict.fromkeys(overlays_sent)
        """What the node was told of before."""
        self.sequence = sequence
        """Up to which change of the endpoints it was told."""

    def __bool__(self) -> bool:
        return bool(self.tasks or self.networks or self.overlays_may_differ or self.endpoints)


def networks_of_node(source: Source, node_id: NodeId) -> dict[NetworkId, None]:
    """The networks that the node carries: those of its unfinished tasks, and the mesh's."""
    return _networks_of_tasks(source, source.state.tasks_of_node(node_id).values())


def _networks_of_tasks(source: Source, tasks: Iterable[Task]) -> dict[NetworkId, None]:
    state, mesh = source.state, source.endpoints.mesh
    used: dict[tuple[ServiceId, int], None] = {}
    for task in tasks:
        if occupies(task.state):
            used[task.service_id, task.spec_version] = None
    found: dict[NetworkId, None] = {} if mesh is None else {mesh: None}
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
    if (spec := service.made_from(spec_version)) is not None:
        message.spec.SetInParent()
        to_proto(spec.task_template, message.spec)
        # Numbers were chosen for the current spec only; an older one's tasks have theirs already.
        current = spec_version >= service.template_version
        for port in service.endpoint.ports if current else spec.endpoint_spec.ports:
            to_proto(port, message.ports.add())
    if service.registry_login is not None:
        to_proto(service.registry_login, message.registry_login)
    return message.SerializeToString(deterministic=True)


def _add_tasks(message: dispatcher_pb2.Assignments, source: Source, tasks: Iterable[Task]) -> None:
    withheld = source.withheld
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
        wanted = task.desired_state
        if wanted > TaskState.RUNNING and task.id in withheld and task.state is TaskState.RUNNING:
            wanted = TaskState.RUNNING
        desired.append(wanted)
    templates = source.templates
    message.templates.extend(templates.template(source.state, *key) for key in indexes)
    message.ids = pack_ids(ids)
    message.slots.extend(slots)
    message.template_index.extend(index_of_task)
    message.desired_states = bytes(desired)


def _add_endpoints(
    message: dispatcher_pb2.Assignments, endpoints: Endpoints, keys: Iterable[EndpointKey]
) -> None:
    gone: list[EndpointKey] = []
    for key in keys:
        made = endpoints.message(key)
        if made is None:
            gone.append(key)
        else:
            message.endpoints.append(made)
    _remove_endpoints(message, gone)


def _remove_endpoints(message: dispatcher_pb2.Assignments, keys: Iterable[EndpointKey]) -> None:
    for service_id, network_id in keys:
        message.removed_endpoints.add(service_id=service_id, network_id=network_id)


def _add_overlay(
    message: dispatcher_pb2.Assignments, source: Source, network_id: NetworkId, node_id: NodeId
) -> None:
    state = source.state
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
        subnet6=network.subnet6,
        gateway=next((c.gateway for c in network.spec.ipam.config if ":" not in c.gateway), ""),
        ingress=network.spec.ingress,
        encrypted=network.spec.encrypted,
    )
    if network.spec.encrypted:
        for key in state.cluster.encryption_keys:
            to_proto(key, overlay.encryption_keys.add())
    blocks = _blocks_by_node(network)
    overlay.local_blocks.extend(blocks.get(node.number, ()))
    for peer in _peers(source, network, blocks):
        if peer.id != node_id and peer.status.addr:
            overlay.peers.add(
                node_number=peer.number,
                addr=peer.status.addr,
                blocks=blocks.get(peer.number, ()),
                addrs6=peer.status.addrs6 if network.meshes6 else (),
            )


def _peers(source: Source, network: Network, blocks: Mapping[int, list[str]]) -> Iterable[Node]:
    """Who carries the network, with or without tasks on it: of the mesh, everybody."""
    state = source.state
    if network.id == source.endpoints.mesh:
        return state.nodes.values()
    numbered = (state.node_of_number.get(number) for number in blocks)
    return [state.nodes[node_id] for node_id in numbered if node_id is not None]


def _blocks_by_node(network: Network) -> Mapping[int, list[str]]:
    found: dict[int, list[str]] = {}
    for block in network.blocks:
        found.setdefault(block.node_number, []).append(block.cidr)
    return found
