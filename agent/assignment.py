"""Assignments: decoding the controller's message into values. PURE."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address

import msgspec
from msgspec.structs import replace

from agent.network.base import Backend, DesiredEndpoint, DesiredOverlay, EndpointKey, Peer
from agent.tasks.record import InPlaceChange, Record
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.clock import Instant
from pyswarm_core.codec import from_proto
from pyswarm_core.identity.certificates import EncryptionKey
from pyswarm_core.ids import NetworkId, NodeId, ServiceId, TaskId
from pyswarm_core.indexes.columns import endpoint_digest, unpack_ids
from pyswarm_core.objects import NO_DETAIL, TaskDetail
from pyswarm_core.specs import ContainerMode, NetworkAttachment, PortConfig, RegistryLogin, TaskSpec
from pyswarm_core.states import TaskState
from pyswarm_core.templates.specs import has_templates
from pyswarm_core.volumes.drivers import masked
from pyswarm_core.volumes.mounts import Driver


class Template(msgspec.Struct, frozen=True, gc=False):
    """The fields that the tasks of one service and spec version share."""

    service_id: ServiceId
    service_name: str
    spec_version: int
    global_service: bool
    spec: TaskSpec
    ports: tuple[PortConfig, ...] = ()
    login: RegistryLogin | None = None
    in_place_change: InPlaceChange | None = None
    """Limits, and of a container networks, of a newer spec version than the tasks', which the spec
    has already.
    """
    volumes: dict[str, str] = {}
    """The ids of the volumes that its mounts name, by name."""
    drivers: dict[str, Driver] = {}
    """The drivers of those of its volumes that have options, by name, with passwords."""
    container: ContainerMode | None = None
    """Set if its task is that of a container, whose writable layer is kept."""
    service_labels: dict[str, str] = {}
    """If the spec has templates."""
    kept_images: tuple[str, ...] = ()
    """Of the other versions that the service keeps."""


class AssignedTask(msgspec.Struct, frozen=True, gc=False):
    """One task of this node, with its desired state."""

    task_id: TaskId
    slot: int
    desired_state: TaskState
    template: Template
    volumes: dict[str, str] | None = None
    """Of a task whose mounts have templates: the ids of its own volumes, by name."""

    def record(self, node_id: NodeId, now: Instant) -> Record:
        """The record of a task that is new on this node."""
        change, container = self.template.in_place_change, self.template.container
        return Record(
            task_id=self.task_id,
            service_id=self.template.service_id,
            service_name=self.template.service_name,
            slot=self.slot,
            node_id=node_id,
            spec=self.template.spec,
            global_service=self.template.global_service,
            spec_version=self.template.spec_version,
            desired_state=self.desired_state,
            ports=self.template.ports,
            accepted_at=now,
            login=self.template.login,
            detail=TaskDetail(in_place_version=change.version) if change else NO_DETAIL,
            layer=self.template.service_id if container else "",
            volatile=container is None or container.auto_remove,
            volumes=self.template.volumes if self.volumes is None else self.volumes,
            service_labels=self.template.service_labels,
            kept_images=self.template.kept_images,
            drivers={
                name: replace(driver, options=masked(driver.options))
                for name, driver in self.template.drivers.items()
            },
        )


class Assignment(msgspec.Struct, frozen=True):
    """One assignment, or a part of it. `full`: anything not named in it is to be removed."""

    full: bool
    revision: int
    tasks: tuple[AssignedTask, ...]
    removed: tuple[TaskId, ...]
    overlays: tuple[DesiredOverlay, ...]
    removed_overlays: tuple[NetworkId, ...]
    endpoints: tuple[DesiredEndpoint, ...] = ()
    removed_endpoints: tuple[EndpointKey, ...] = ()
    kept_layers: frozenset[str] | None = None
    """With `full`: other writable layers are to be deleted; None: none are."""
    removed_layers: tuple[str, ...] = ()
    removed_volumes: tuple[str, ...] = ()
    """Volumes whose copies are to be deleted; with `full`, all of them."""


def drivers_of(assignment: Assignment) -> dict[str, Driver]:
    """The drivers of the volumes of an assignment's tasks, by id, with passwords."""
    found = {}
    for task in assignment.tasks:
        template = task.template
        found.update({template.volumes[name]: one for name, one in template.drivers.items()})
    return found


def parse_assignment(message: dispatcher_pb2.Assignments) -> Assignment:
    """Decode the message. Raises ValueError if its columns differ in length."""
    templates = [_template(data) for data in message.templates]
    keeps = message.full and message.HasField("layers")
    columns = zip(
        unpack_ids(message.ids),
        message.slots,
        message.desired_states,
        message.template_index,
        strict=True,
    )
    own = {one.task: dict(one.volumes) for one in message.own_volumes}
    return Assignment(
        full=message.full,
        revision=message.revision,
        tasks=tuple(
            AssignedTask(task_id, slot, TaskState(desired), templates[index], own.get(number))
            for number, (task_id, slot, desired, index) in enumerate(columns)
        ),
        removed=tuple(unpack_ids(message.removed_ids)),
        overlays=tuple(_overlay(data) for data in message.overlays),
        removed_overlays=tuple(NetworkId(name) for name in message.removed_overlays),
        endpoints=tuple(_endpoint(data) for data in message.endpoints),
        removed_endpoints=tuple(
            (ServiceId(ref.service_id), NetworkId(ref.network_id))
            for ref in message.removed_endpoints
        ),
        kept_layers=frozenset(unpack_ids(message.layers.kept)) if keeps else None,
        removed_layers=tuple(unpack_ids(message.layers.removed)),
        removed_volumes=tuple(unpack_ids(message.removed_volumes)),
    )


def join_parts(parts: Sequence[Assignment]) -> Assignment:
    """Join the parts of one assignment, at least one."""
    last = parts[-1]
    if len(parts) == 1:
        return last
    return Assignment(
        full=last.full,
        revision=last.revision,
        tasks=tuple([task for part in parts for task in part.tasks]),
        removed=tuple([task_id for part in parts for task_id in part.removed]),
        overlays=tuple([overlay for part in parts for overlay in part.overlays]),
        removed_overlays=tuple([i for part in parts for i in part.removed_overlays]),
        endpoints=tuple([endpoint for part in parts for endpoint in part.endpoints]),
        removed_endpoints=tuple([key for part in parts for key in part.removed_endpoints]),
        kept_layers=last.kept_layers,
        removed_layers=last.removed_layers,
        removed_volumes=last.removed_volumes,
    )


@lru_cache(maxsize=1024)
def _template(data: bytes) -> Template:
    message = dispatcher_pb2.TaskTemplate.FromString(data)
    spec = from_proto(TaskSpec, message.spec)
    new = message.HasField("spec") and message.in_place_version > message.spec_version
    networks = spec.networks if message.HasField("container") else None
    return Template(
        ServiceId(message.service_id),
        message.service_name,
        message.spec_version,
        getattr(message, "global"),
        spec,
        tuple(from_proto(PortConfig, port) for port in message.ports),
        _login(message),
        _change(message.in_place_version, spec, networks) if new else None,
        dict(message.volumes),
        {name: from_proto(Driver, driver) for name, driver in message.volume_drivers.items()},
        from_proto(ContainerMode, message.container) if message.HasField("container") else None,
        dict(message.service_labels) if _may_name_labels(spec) else {},
        tuple(message.kept_images),
    )


def _change(
    version: int, spec: TaskSpec, networks: tuple[NetworkAttachment, ...] | None
) -> InPlaceChange:
    container = spec.container_spec
    uses = bool(container.references)
    return InPlaceChange(
        version,
        spec.resources,
        networks,
        secrets=container.secrets if uses else None,
        configs=container.configs if uses else None,
    )


def _may_name_labels(spec: TaskSpec) -> bool:
    """Whether a template may name labels; whether a secret or config is one, is not known here."""
    return has_templates(spec.container_spec) or bool(spec.container_spec.references)


def _login(message: dispatcher_pb2.TaskTemplate) -> RegistryLogin | None:
    given = message.HasField("registry_login")
    return from_proto(RegistryLogin, message.registry_login) if given else None


def _overlay(data: bytes) -> DesiredOverlay:
    message = dispatcher_pb2.Overlay.FromString(data)
    return DesiredOverlay(
        network_id=NetworkId(message.network_id),
        name=message.name,
        subnet=message.subnet,
        local_blocks=tuple(message.local_blocks),
        vni=message.vni,
        node_number=message.node_number,
        mtu=message.mtu,
        internal=message.internal,
        peers=tuple(
            Peer(
                node_number=peer.node_number,
                address=peer.addr,
                blocks=tuple(peer.blocks),
                addresses6=tuple(peer.addrs6),
            )
            for peer in message.peers
        ),
        subnet6=message.subnet6,
        gateway=message.gateway,
        ingress=message.ingress,
        encrypted=message.encrypted,
        block_metadata=message.block_metadata,
        encryption_keys=tuple(from_proto(EncryptionKey, key) for key in message.encryption_keys),
    )


def _endpoint(data: bytes) -> DesiredEndpoint:
    message = dispatcher_pb2.ServiceEndpoint.FromString(data)
    packed = message.addresses
    addresses = [str(IPv4Address(packed[at : at + 4])) for at in range(0, len(packed), 4)]
    columns = zip(unpack_ids(message.task_ids), message.slots, addresses, strict=True)
    return DesiredEndpoint(
        service_id=ServiceId(message.service_id),
        service_name=message.service_name,
        network_id=NetworkId(message.network_id),
        global_service=getattr(message, "global"),
        vip=message.vip,
        aliases=tuple(message.aliases),
        backends=tuple(Backend(*column) for column in columns),
        ports=tuple(from_proto(PortConfig, port) for port in message.ports),
        digest=endpoint_digest(data),
    )
