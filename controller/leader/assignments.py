"""Makes assignments: all of what a node should run, or the changes. PURE.

An agent holds every stored task of its node, ended ones too. A node receives an overlay and the
endpoints on it while it has a task on it that has not ended; all nodes receive the ingress network.
Tasks name their template by index. A template is serialized once per service and spec version,
endpoints and overlays once per change. A withheld task is sent with desired state running.

A message is made in parts of ASSIGNMENT_BYTES, and the state may change between them. Each part
shows the state at the time it is made; what changes after the first part was begun is sent again
afterwards.
"""

from collections.abc import Container, Iterable, Iterator

import msgspec

from controller.brain.mounts import is_per_task, volumes_of_task
from controller.brain.scheduler.filters import images_of
from controller.brain.slices import Slices, batches
from controller.leader.endpoints.sets import EndpointKey, Endpoints
from controller.leader.overlays import OverlayMessages
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.errors import with_place
from pyswarm_core.ids import NetworkId, NodeId, ServiceId, TaskId
from pyswarm_core.indexes.columns import pack_ids
from pyswarm_core.kinds import SERVICE, VOLUME
from pyswarm_core.limits import (
    ASSIGNMENT_BYTES,
    ASSIGNMENT_TASK_BYTES,
    SLICE_OBJECT_BYTES,
    SLICE_TASKS,
)
from pyswarm_core.objects import Service, Task
from pyswarm_core.specs import ContainerMode
from pyswarm_core.state import State
from pyswarm_core.states import TaskState, occupies
from pyswarm_core.volumes.volume import VolumeId

TEMPLATES_KEPT = 4_096
"""Serialized templates kept; beyond that the oldest are made again when needed."""


class Templates:
    """A cache of serialized task templates; of a spec version only the limits change."""

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}
        """Services without a template, as `service/<id>`, and why."""
        self._made: dict[tuple[ServiceId, int, int, str, tuple[str, ...]], bytes] = {}

    def template(self, state: State, service_id: ServiceId, spec_version: int) -> bytes:
        """A TaskTemplate message. Without a spec if that version is no longer kept: an agent that
        holds such a task has its own record of it."""
        in_place_version = _in_place_version(state, service_id, spec_version)
        service = state.services.get(service_id)
        name = service.spec.name if service is not None else ""
        volumes = _volumes(state, service_id, spec_version)
        key = (service_id, spec_version, in_place_version, name, tuple(volumes.values()))
        made = self._made.get(key)
        if made is None:
            if len(self._made) >= TEMPLATES_KEPT:
                del self._made[next(iter(self._made))]
            try:
                made = _template(state, service_id, spec_version, in_place_version)
            except Exception as error:
                # This affects the tasks of this service only: agents cannot start new ones.
                self.failed[SERVICE.object_name(service_id)] = with_place(error)
                bare = dispatcher_pb2.TaskTemplate(service_id=service_id, spec_version=spec_version)
                made = bare.SerializeToString(deterministic=True)
            self._made[key] = made
        return made


class Source(msgspec.Struct, frozen=True):
    """What messages are made of."""

    state: State
    endpoints: Endpoints
    overlays: OverlayMessages
    templates: Templates
    withheld: Container[TaskId] = ()
    """Tasks that stop when no node sends connections to them any more."""

    def is_withheld(self, task_id: TaskId) -> bool:
        """Whether the agent receives the task's stop later. False for a task that was removed
        meanwhile: no later message would name it.
        """
        return task_id in self.withheld and task_id in self.state.tasks

    @property
    def failed(self) -> dict[str, str]:
        """Services whose endpoints or templates cannot be made, as `service/<id>`, and why."""
        return self.endpoints.failed | self.templates.failed


Assignments = dispatcher_pb2.Assignments
Parts = Iterator[Assignments | None]
"""The parts of one message, each as soon as it is made; None after a slice of work without one."""
_Used = dict[tuple[ServiceId, int], None]


class Unsent:
    """What a session has yet to send. Mutable; bounded by its owner."""

    def __init__(
        self, overlays_sent: dict[NetworkId, int] | None = None, sequence: int = 0
    ) -> None:
        self.tasks: dict[TaskId, None] = {}
        self.limits: dict[ServiceId, None] = {}
        """Services whose tasks' limits changed."""
        self.overlays_may_differ = False
        """A task with networks ended, or networks changed."""
        self.endpoints = False
        """Endpoints changed, perhaps none that the node has: it is to acknowledge in any case."""
        self.layers: dict[ServiceId, None] = {}
        """Containers whose writable layers the node may keep no longer."""
        self.volumes: dict[VolumeId, None] = {}
        """Volumes whose copies the node is to delete."""
        self.overlays_sent = {} if overlays_sent is None else overlays_sent
        """The versions that were sent to the node."""
        self.sequence = sequence
        """The last change of endpoints that was sent."""

    def __bool__(self) -> bool:
        changed = self.tasks or self.limits or self.layers or self.volumes
        return bool(changed or self.overlays_may_differ or self.endpoints)


def full_assignments(
    source: Source, node_id: NodeId, sent: dict[NetworkId, int], revision: int
) -> Parts:
    """The full set: the agent drops what is not named. The overlays sent are added to `sent`."""
    message = _Message(source, node_id, Assignments(full=True, revision=revision))
    used: _Used = {}
    yield from message.add_tasks(tuple(source.state.tasks_of_node(node_id)), used)
    yield from message.add_overlays(_networks_of_tasks(source, used), sent)
    if _knows_all_services(source.state):
        message.keep_layers(source.state.layers.of_node(node_id))
    message.remove_volumes(source.state.copies.to_remove(node_id))
    yield message.end()


def _knows_all_services(state: State) -> bool:
    """Whether all services can be read: only its agent knows which node has the writable layer of
    an unreadable one.
    """
    prefix = SERVICE.object_name(ServiceId(""))
    return not any(name.startswith(prefix) for name in state.unreadable)


def changed_assignments(source: Source, node_id: NodeId, changes: Unsent, revision: int) -> Parts:
    """The changes. Updates `changes.overlays_sent`."""
    state, endpoints, sent = source.state, source.endpoints, changes.overlays_sent
    message = _Message(source, node_id, Assignments(revision=revision))
    own = state.tasks_of_node(node_id)
    message.remove_tasks(i for i in changes.tasks if i not in own)
    used: _Used = {}
    limited = [task.id for task in own.values() if task.service_id in changes.limits]
    yield from message.add_tasks(dict.fromkeys((*changes.tasks, *limited)), used)
    if changes.overlays_may_differ:
        yield from _use(source, node_id, used)
    needed = _networks_of_tasks(source, used)
    gone = dict.fromkeys(i for i in sent if changes.overlays_may_differ and i not in needed)
    news = [key for key in endpoints.changed_since(changes.sequence) if key[1] in sent]
    yield from message.add_endpoints(key for key in news if key[1] not in gone)
    yield from message.remove_endpoints(key for key in news if key[1] in gone)
    for network_id in gone:
        del sent[network_id]
        message.remove_overlay(network_id)
        yield from message.remove_endpoints(endpoints.on_network(network_id))
    yield from message.add_overlays(needed, sent)
    kept = state.layers.of_node(node_id)
    message.remove_layers(one for one in changes.layers if one not in kept)
    if changes.volumes:
        message.remove_volumes(i for i in state.copies.to_remove(node_id) if i in changes.volumes)
    yield message.end()


def _use(source: Source, node_id: NodeId, used: _Used) -> Slices[None]:
    """Add the spec versions that the node's unfinished tasks are made from."""
    for ids in batches(tuple(source.state.tasks_of_node(node_id)), SLICE_TASKS):
        own = source.state.tasks_of_node(node_id)
        for task in [own[i] for i in ids if i in own]:
            if occupies(task.state):
                used[task.service_id, task.spec_version] = None
        if len(ids) == SLICE_TASKS:
            yield


def _networks_of_tasks(source: Source, used: _Used) -> dict[NetworkId, None]:
    """The existing networks of such tasks, and the ingress network."""
    state, mesh = source.state, source.endpoints.mesh
    found: dict[NetworkId, None] = {} if mesh is None else {mesh: None}
    for service_id, spec_version in used:
        found.update(dict.fromkeys(networks_of(state, service_id, spec_version)))
    return {network_id: None for network_id in found if network_id in state.networks}


def networks_of(state: State, service_id: ServiceId, spec_version: int) -> list[NetworkId]:
    """The networks that such tasks join."""
    service = state.services.get(service_id)
    template = service.template(spec_version) if service else None
    return [NetworkId(network.target) for network in template.networks] if template else []


class _Message:
    """A message to one node, cut into parts."""

    def __init__(self, source: Source, node_id: NodeId, begun: Assignments) -> None:
        self._source = source
        self._node_id = node_id
        self._part = begun
        self._weight = 0

    def end(self) -> Assignments:
        """The last part."""
        return self._part

    def add_tasks(self, ids: Iterable[TaskId], used: _Used) -> Parts:
        """Add the tasks that the node has. `used` gets the templates of unfinished ones."""
        tasks, node_id = self._source.state.tasks, self._node_id
        found = (tasks.get(i) for i in ids)
        own = (task for task in found if task is not None and task.node_id == node_id)
        while self._add_columns(own, used):
            yield from self._cut(0)

    def _add_columns(self, tasks: Iterator[Task], used: _Used) -> bool:
        """Add tasks until the part is full; whether it is."""
        source, part, withheld = self._source, self._part, self._source.withheld
        indexes: dict[tuple[ServiceId, int], int] = {}
        with_own: set[int] = set()
        index_of_task: list[int] = []
        ids: list[TaskId] = []
        slots: list[int] = []
        desired = bytearray()
        for task in tasks:
            state = task.state
            if state < TaskState.ASSIGNED:
                continue  # bound to this node, which has no room for it yet
            key = (task.service_id, task.spec_version)
            index = indexes.get(key)
            if index is None:
                index = indexes[key] = len(indexes)
                template = source.templates.template(source.state, *key)
                part.templates.append(template)
                if _has_own_volumes(source.state, *key):
                    with_own.add(index)
                self._weight += SLICE_OBJECT_BYTES + len(template)
            if occupies(state):
                used[key] = None
            if index in with_own and (own := _own_volumes(source.state, task)):
                part.own_volumes.add(task=len(ids)).volumes.update(own)
                self._weight += ASSIGNMENT_TASK_BYTES
            index_of_task.append(index)
            ids.append(task.id)
            slots.append(task.slot)
            shown = task.desired_state
            if shown > TaskState.RUNNING and task.id in withheld and state is TaskState.RUNNING:
                shown = TaskState.RUNNING
            desired.append(shown)
            self._weight += ASSIGNMENT_TASK_BYTES
            if self._is_full():
                break
        part.ids = pack_ids(ids)
        part.slots.extend(slots)
        part.template_index.extend(index_of_task)
        part.desired_states = bytes(desired)
        return self._is_full()

    def remove_tasks(self, ids: Iterable[TaskId]) -> None:
        """Add the removal of these tasks."""
        self._part.removed_ids = pack_ids(ids)

    def keep_layers(self, services: Iterable[ServiceId]) -> None:
        """Add which writable layers the node keeps; it deletes all others."""
        self._part.layers.SetInParent()
        self._part.layers.kept = pack_ids(services)

    def remove_layers(self, services: Iterable[ServiceId]) -> None:
        """Add the removal of these writable layers."""
        if gone := tuple(services):
            self._part.layers.removed = pack_ids(gone)

    def remove_volumes(self, volumes: Iterable[VolumeId]) -> None:
        """Add the removal of the node's copies of these volumes."""
        self._part.removed_volumes = pack_ids(tuple(volumes))

    def add_overlays(self, networks: Iterable[NetworkId], sent: dict[NetworkId, int]) -> Parts:
        """Add the overlays whose current version was not sent; with a new one, its endpoints."""
        overlays, endpoints = self._source.overlays, self._source.endpoints
        for network_id in networks:
            if network_id not in self._source.state.networks:
                continue
            if sent.get(network_id) == overlays.version(network_id):
                continue
            overlay = yield from overlays.of_node(network_id, self._node_id)
            if overlay is None:
                continue
            is_new = network_id not in sent
            sent[network_id] = overlay.version
            self._part.overlays.append(overlay.message)
            yield from self._cut(SLICE_OBJECT_BYTES + len(overlay.message))
            if is_new:
                yield from self.add_endpoints(endpoints.on_network(network_id))

    def remove_overlay(self, network_id: NetworkId) -> None:
        """Add the removal of the network."""
        self._part.removed_overlays.append(network_id)

    def add_endpoints(self, keys: Iterable[EndpointKey]) -> Parts:
        """Add the endpoints that exist, and the removal of the others."""
        gone: list[EndpointKey] = []
        for key in tuple(keys):
            made = self._source.endpoints.message(key)
            if made is None:
                gone.append(key)
            else:
                self._part.endpoints.append(made)
                yield from self._cut(SLICE_OBJECT_BYTES + len(made))
        yield from self.remove_endpoints(gone)

    def remove_endpoints(self, keys: Iterable[EndpointKey]) -> Parts:
        """Add the removal of these endpoints."""
        for service_id, network_id in tuple(keys):
            self._part.removed_endpoints.add(service_id=service_id, network_id=network_id)
            yield from self._cut(ASSIGNMENT_TASK_BYTES)

    def _is_full(self) -> bool:
        return self._weight >= ASSIGNMENT_BYTES

    def _cut(self, weight: int) -> Parts:
        """Count what was added; yield the part if it is full."""
        self._weight += weight
        if self._is_full():
            part = self._part
            self._part = Assignments(full=part.full, revision=part.revision)
            self._weight = 0
            part.more = True
            yield part


def _in_place_version(state: State, service_id: ServiceId, spec_version: int) -> int:
    """The newest spec version of what changes in running containers, if it is newer than that of
    the template.
    """
    service = state.services.get(service_id)
    if service is None or not service.is_current(spec_version):
        return 0
    return service.in_place_version if service.in_place_version > spec_version else 0


def _volumes(state: State, service_id: ServiceId, spec_version: int) -> dict[str, VolumeId]:
    """The ids of the volumes that tasks of the spec version mount, by name."""
    service = state.services.get(service_id)
    template = service.template(spec_version) if service else None
    if template is None or is_per_task(template):
        return {}
    known = state.ids_of_names(VOLUME)
    return {name: known[name] for name in template.volumes if name in known}


def _has_own_volumes(state: State, service_id: ServiceId, spec_version: int) -> bool:
    """Whether tasks of the spec version may each have other volumes."""
    service = state.services.get(service_id)
    template = service.template(spec_version) if service else None
    return template is not None and is_per_task(template)


def _kept_images(service: Service, spec_version: int) -> list[str]:
    """The images of the other versions that the service keeps, of containers and of mounts."""
    specs = [service.spec, *(one.spec for one in service.previous_specs)]
    own = service.template(spec_version)
    named = dict.fromkeys(image for spec in specs for image in images_of(spec.task_template))
    return [image for image in named if own is None or image not in images_of(own)]


def _own_volumes(state: State, task: Task) -> dict[str, VolumeId]:
    """The ids of the volumes that the task mounts, by name."""
    known = state.ids_of_names(VOLUME)
    names = volumes_of_task(state, state.services[task.service_id], task)
    return {name: known[name] for name in names if name in known}


def _template(
    state: State, service_id: ServiceId, spec_version: int, in_place_version: int
) -> bytes:
    message = dispatcher_pb2.TaskTemplate(service_id=service_id, spec_version=spec_version)
    service = state.services.get(service_id)
    if service is None:
        return message.SerializeToString(deterministic=True)
    setattr(message, "global", service.spec.mode.per_node)
    message.service_name = service.spec.name
    if isinstance(service.spec.mode, ContainerMode):
        message.container.SetInParent()
        to_proto(service.spec.mode, message.container)
    spec = service.made_from(spec_version)
    if spec is not None:
        message.service_labels.update(spec.labels)
    for name, volume_id in _volumes(state, service_id, spec_version).items():
        message.volumes[name] = volume_id
        if (driver := state.of(VOLUME)[volume_id].full_driver).options:
            to_proto(driver, message.volume_drivers[name])
    if spec is not None:
        message.spec.SetInParent()
        message.in_place_version = in_place_version
        to_proto(spec.task_template, message.spec)
        # Numbers were chosen for the current spec only; an older one's tasks have theirs already.
        current = service.is_current(spec_version)
        for port in service.endpoint.ports if current else spec.endpoint_spec.ports:
            to_proto(port, message.ports.add())
    if service.registry_login is not None:
        to_proto(service.registry_login, message.registry_login)
    message.kept_images.extend(_kept_images(service, spec_version))
    return message.SerializeToString(deterministic=True)
