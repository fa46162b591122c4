"""Stored objects: a spec plus what the system decided and observed. PURE values.

A `Task` is flat and small because there may be a million of them; what only few tasks have (the
text of an error, an exit code, addresses) is in `TaskDetail`, which is shared and empty for the
rest. docs/task-model.md states the rules of a task.
"""

from enum import StrEnum
from typing import NamedTuple

import msgspec

from pyswarm_core.clock import Instant
from pyswarm_core.identity.author import Author
from pyswarm_core.identity.certificates import CertificateAuthority, EncryptionKey, NodeCertificate
from pyswarm_core.ids import NetworkId, NodeId, ServiceId, TaskId
from pyswarm_core.images.disk import ImageDisk
from pyswarm_core.limits import DETAIL_LENGTH_OLD
from pyswarm_core.model import Model, docker_name
from pyswarm_core.resources import NodeResources as NodeResources
from pyswarm_core.specs import (
    ClusterSpec,
    NetworkSpec,
    NodeSpec,
    PortConfig,
    RegistryLogin,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from pyswarm_core.stacks.dependencies import OPEN, Gate
from pyswarm_core.states import Capability, NodeState, TaskState, UpdateState, ends_by_itself, lives


class Version(Model, frozen=True):
    """The version for optimistic updates: an update names the index that it is based on."""

    index: int = 0


class Object(Model, frozen=True):
    """A value that is stored under its own id. The struct of every kind has these fields."""

    @property
    def id(self) -> str:
        """Unique within its kind, and never reused."""
        raise NotImplementedError

    @property
    def version(self) -> Version:
        """Increases with every change of a user."""
        raise NotImplementedError

    @property
    def created_at(self) -> Instant:
        """The time of its creation."""
        raise NotImplementedError

    @property
    def updated_at(self) -> Instant:
        """The time of its last change."""
        raise NotImplementedError


class PreviousSpec(Model, frozen=True):
    """An earlier spec of a service, for tasks made from it and for a rollback."""

    version: int
    spec: ServiceSpec
    created_at: Instant = Instant(0)
    """When it became the service's spec; 0: unknown, stored by an older version."""


class VersionRange(Model, frozen=True):
    """Spec versions, both ends included."""

    first: int
    last: int


class UpdateStatus(Model, frozen=True):
    """The progress of a service's last update or rollback, as far as its tasks do not show it."""

    state: UpdateState = UpdateState.UPDATING
    started_at: Instant = Instant(0)
    completed_at: Instant = Instant(0)
    """0 until it is completed."""
    message: str = ""
    from_version: int = 0
    """The spec version that an automatic rollback returns to: the last whose update completed."""
    to_version: int = 0
    """The spec version of its tasks."""
    slots: int = 0
    """Slots that it had to update when it began."""
    failures: int = 0
    """Of them, those whose first task failed within the monitored time, or runs and did not serve
    within SERVE_DEADLINE.
    """
    automatic: bool = False
    """A rollback that the failure action of an update began, or the update of tasks that it left on
    paused nodes.
    """
    waiting: int = 0
    """Slots whose tasks waited for a node when it began: these do not hold up the others."""


class VirtualIp(Model, frozen=True):
    """The virtual address of a service on one network."""

    network_id: NetworkId
    addr: str


class Endpoint(Model, frozen=True):
    """What the allocator assigned for a service's endpoint spec."""

    ports: tuple[PortConfig, ...] = ()
    """The ports of the spec, with a number for every published port of mode ingress."""
    virtual_ips: tuple[VirtualIp, ...] = ()


class Service(Object, frozen=True):
    """A service and what the system decided about it."""

    id: ServiceId
    spec: ServiceSpec
    version: Version = Version()
    created_at: Instant = Instant(0)
    updated_at: Instant = Instant(0)
    spec_version: int = 1
    template_version: int = 1
    """The spec version that last changed the task template; tasks of older ones are outdated."""
    previous_specs: tuple[PreviousSpec, ...] = ()
    """Newest first."""
    removing: bool = False
    """Its tasks are being shut down; its name is free again."""
    endpoint: Endpoint = Endpoint()
    registry_login: RegistryLogin | None = None
    """The login for pulling its image; only agents that run its tasks receive it."""
    update_status: UpdateStatus | None = None
    """None: it was never updated."""
    same_template: tuple[VersionRange, ...] = ()
    """Versions before `template_version` whose tasks have its template: a rollback keeps them."""
    in_place_version: int = 0
    """The spec version that last changed limits, or networks of a container; 0: none did."""
    started_at: Instant = Instant(0)
    """When it was last started after a stop: tasks that ended before then run again; 0: never."""
    pinned_node: NodeId = NodeId("")
    """Of a container: the node that has its writable layer; empty until its first task has one."""
    remove_volumes: bool = False
    """Of a container that is being removed: its anonymous volumes go too."""
    updated_by: Author | None = None
    """Who made its last version; None: a controller, or a caller without a name."""
    gate: Gate = OPEN
    volumes_of_others: tuple[str, ...] = ()
    """Ids of volumes that are not of its stack, and that its users had it mount."""

    def is_current(self, spec_version: int) -> bool:
        """Whether tasks of that spec version have the current template."""
        return spec_version >= self.template_version or any(
            one.first <= spec_version <= one.last for one in self.same_template
        )

    @property
    def is_updating(self) -> bool:
        """Whether an update or a rollback goes on or is paused."""
        return self.update_status is not None and self.update_status.state.is_unfinished

    @property
    def is_paused(self) -> bool:
        """Whether its update or rollback is paused: slots keep their templates."""
        return self.update_status is not None and self.update_status.state.is_paused

    @property
    def update_settings(self) -> UpdateConfig:
        """The settings of the last update, or of the rollback. A rollback's still apply once it is
        completed: it may have left outdated tasks beside new ones.
        """
        status = self.update_status
        rolls_back = status is not None and status.state.is_rollback
        return self.spec.rollback_config if rolls_back else self.spec.update_config

    def made_from(self, spec_version: int) -> ServiceSpec | None:
        """The spec of that version, from which tasks are made; None if it is no longer kept."""
        if self.is_current(spec_version):
            return self.spec
        for previous in self.previous_specs:
            if previous.version <= spec_version:
                return previous.spec
        return None

    def name_of(self, task: "Task") -> str:
        """The name of one of its tasks: `web.1`; `edge.<node id>` if it is a global service; the
        container's name.
        """
        if self.spec.mode.is_container:
            return self.spec.name
        place = task.node_id if self.spec.mode.per_node else ""
        return f"{self.spec.name}.{place or task.slot}"

    def template(self, spec_version: int) -> TaskSpec | None:
        """The task template of that spec version; None if it is no longer kept."""
        spec = self.made_from(spec_version)
        return None if spec is None else spec.task_template


class TaskAddress(Model, frozen=True):
    """An address a task has on one network."""

    network_id: NetworkId
    address: str


NOT_READY = "not ready"
"""The beginning of the message of a running task whose readiness check fails."""


class HealthState(StrEnum):
    """The result of a task's health check, in Docker's words; NONE: it has no check."""

    NONE = ""
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


class TaskDetail(Model, frozen=True):
    """The details that only some tasks have."""

    message: str = ""
    """The current activity, for display."""
    error: str = ""
    exit_code: int = 0
    oom: bool = False
    pid: int = 0
    addresses: tuple[TaskAddress, ...] = ()
    serving: bool = False
    """It may receive connections: it runs, and listens on the TCP ports it publishes."""
    ports: tuple[PortConfig, ...] = ()
    """Its ports published in mode host, with the chosen numbers."""
    health: HealthState = HealthState.NONE
    ran: int = 0
    """Nanoseconds that it was running; 0 until it has ended, and if it never became healthy."""
    in_place_version: int = 0
    """The spec version whose limits it has (of a container, and networks), or refused; 0: those
    that it was made with.
    """
    in_place_error: str = ""
    """Why its limits could not be changed to those of `in_place_version`."""
    told_to_end: bool = False
    """It ended by itself after the controller had told it to end: no failure. Set by `State`."""
    paused: bool = False
    """Its processes are frozen, as a user requested; it receives no connections meanwhile."""
    command: str = ""
    """Its command line as shell words, cut, if the image decides a part; empty: the spec's."""
    networks_refused: bool = False
    """`in_place_error` is why a running container could not join its networks."""
    image_volumes: str = ""
    """The paths of volumes that its image's VOLUME made, as shell words; as many as fit."""


NO_DETAIL = TaskDetail()


def clipped(text: str, size: int) -> str:
    """The text, cut to at most `size` bytes of UTF-8."""
    if 4 * len(text) <= size:
        return text
    data = text.encode(errors="replace")
    if len(data) <= size:
        return text
    dots = "..."[:size]
    return data[: size - len(dots)].decode(errors="ignore") + dots


def shortened(detail: TaskDetail) -> TaskDetail:
    """The details kept of an old ended task; the same object if nothing is cut."""
    texts = detail.message or detail.error or detail.command or detail.image_volumes
    if not (detail.addresses or detail.ports or texts):
        return detail
    short = TaskDetail(
        message=clipped(detail.message, DETAIL_LENGTH_OLD),
        error=clipped(detail.error, DETAIL_LENGTH_OLD),
        exit_code=detail.exit_code,
        oom=detail.oom,
        pid=detail.pid,
        ran=detail.ran,
        told_to_end=detail.told_to_end,
        command=clipped(detail.command, DETAIL_LENGTH_OLD),
    )
    return detail if short == detail else short


class Task(msgspec.Struct, frozen=True, gc=False, rename=docker_name):
    """One execution of a service's template. The hot path uses the positional order: do not
    reorder.
    """

    id: TaskId
    service_id: ServiceId
    slot: int
    """Replicated: 1, 2, 3…; global: the node's number."""
    spec_version: int
    created_at: Instant
    node_id: NodeId = NodeId("")
    desired_state: TaskState = TaskState.RUNNING
    state: TaskState = TaskState.NEW
    status_at: Instant = Instant(0)
    """When `state` was last reported, by the controller's clock."""
    restarts: int = 0
    """Earlier tasks of this slot with the same spec version that ended by themselves."""
    detail: TaskDetail = NO_DETAIL
    restarted_at: tuple[Instant, ...] = ()
    """When the restarts that led to it began, oldest first: as many as the policy needs to count
    those within its window, at most RESTARTS_REMEMBERED. Stored for the newest task of a slot.
    """
    consecutive_restarts: int = 0
    """Restarts in a row that led to it, without one task that ran for long; for the delay before
    the next (RestartPolicy.max_delay).
    """
    failed_update: bool = False
    """An earlier task of its slot and spec version failed while its update was monitored; or the
    task itself, which ran and did not serve within SERVE_DEADLINE.
    """


def ended_unasked(task: Task) -> bool:
    """Whether it ended by itself, and the controller had not told it to end."""
    return ends_by_itself(task.state) and not task.detail.told_to_end


class TaskStatus(NamedTuple):
    """An agent's report about one task."""

    task_id: TaskId
    state: TaskState
    detail: TaskDetail


def reported(task: Task, status: TaskStatus, now: Instant) -> Task:
    """The task after a report of its agent that was received now."""
    state, detail = status.state, status.detail
    if state > TaskState.RUNNING:
        told = ends_by_itself(state) and not lives(task.desired_state)
        if detail.told_to_end is not told:
            detail = msgspec.structs.replace(detail, told_to_end=told)
    return Task(
        task.id,
        task.service_id,
        task.slot,
        task.spec_version,
        task.created_at,
        task.node_id,
        task.desired_state,
        state,
        now if state != task.state else task.status_at,
        task.restarts,
        detail,
        task.restarted_at,
        task.consecutive_restarts,
        task.failed_update,
    )


class Platform(Model, frozen=True):
    """The platform of a node, in Go's words (amd64, linux)."""

    architecture: str = "amd64"
    os: str = "linux"


class NodeDescription(Model, frozen=True):
    """An agent's description of its host."""

    hostname: str
    platform: Platform = Platform()
    resources: NodeResources = NodeResources()
    engine_version: str = ""
    engine_labels: dict[str, str] = {}
    lacks: tuple[str, ...] = ()
    """The capabilities that its kernel lacks. Unknown words of other versions are ignored."""
    max_tasks: int = 0
    """Tasks that it accepts at once, without ended ones; 0: not reported."""
    protocol: int = 0
    """The protocol of its agent (limits.py); 0: not reported."""
    metrics_addrs: tuple[str, ...] = ()
    """ADDRESS:PORT of its agent's metrics, as other hosts reach them."""

    @property
    def spoken(self) -> int:
        """The protocol of its agent; an agent that reports none has the first."""
        return self.protocol or 1


class NodeFault(Model, frozen=True):
    """Something that a host cannot do for one network, as its agent reported it."""

    network_id: NetworkId
    """Empty: every network, and with `blocks` every task."""
    reason: str
    blocks: bool = False
    """The scheduler prefers other nodes for tasks of the network."""


class NodeStatus(Model, frozen=True):
    """What the leader knows about a node."""

    state: NodeState = NodeState.UNKNOWN
    since: Instant = Instant(0)
    """When it entered this state. Deadlines of the state are computed from it."""
    message: str = ""
    addr: str = ""
    """Its address on the underlay, the destination of other hosts' VXLAN packets."""
    addrs6: tuple[str, ...] = ()
    """Its IPv6 addresses, by which hosts of the routing mesh recognise its connections."""
    faults: tuple[NodeFault, ...] = ()
    """The faults that its agent reported last."""
    image_disk: ImageDisk = ImageDisk()


class Node(Object, frozen=True):
    """A host that joined the fleet."""

    id: NodeId
    number: int
    """1, 2, 3…; never reused for another node."""
    description: NodeDescription
    spec: NodeSpec = NodeSpec()
    version: Version = Version()
    created_at: Instant = Instant(0)
    updated_at: Instant = Instant(0)
    status: NodeStatus = NodeStatus()
    updated_by: Author | None = None
    certificate: NodeCertificate = NodeCertificate()


class Block(Model, frozen=True):
    """A part of a network's subnet, and the node that assigns its addresses."""

    cidr: str
    node_number: int


class Network(Object, frozen=True):
    """An overlay network and what the allocator assigned to it."""

    id: NetworkId
    spec: NetworkSpec
    subnet: str
    vni: int
    version: Version = Version()
    created_at: Instant = Instant(0)
    updated_at: Instant = Instant(0)
    blocks: tuple[Block, ...] = ()
    subnet6: str = ""
    """Empty: no IPv6. Its addresses follow from those of IPv4, see addresses.py."""
    updated_by: Author | None = None

    @property
    def meshes6(self) -> bool:
        """Whether it is the ingress network and has IPv6."""
        return self.spec.ingress and bool(self.subnet6)

    @property
    def needs(self) -> tuple[Capability, ...]:
        """The capabilities that a host's kernel must have to carry it."""
        esp = (Capability.ESP,) if self.spec.encrypted else ()
        return (*esp, Capability.IPV6) if self.subnet6 else esp


class Cluster(Object, frozen=True):
    """The fleet's settings and counters; there is exactly one."""

    id: str
    spec: ClusterSpec = ClusterSpec()
    version: Version = Version()
    created_at: Instant = Instant(0)
    updated_at: Instant = Instant(0)
    worker_token: str = ""
    next_node_number: int = 1
    next_vni: int = 4096
    """Swarm's first VNI."""
    encryption_keys: tuple[EncryptionKey, ...] = ()
    """Newest first; none while no network is encrypted."""
    ca: CertificateAuthority = CertificateAuthority()
    """Issues all certificates."""
    former_roots: tuple[str, ...] = ()
    """Roots (PEM) before `ca`, newest first: trusted while a node has a certificate of theirs."""
    cross_certificate: str = ""
    """`ca`'s key, signed by the root before it (PEM); empty while there are no former roots."""
    unlock_key: bytes = b""
    """With `spec.autolock`: the key that encrypts the key files of controllers."""
    start_flags: tuple[str, ...] = ()
    """The settings that flags of the leader named at its start, as `agent_grace=15000000000`: a
    restart with the same flags undoes no `swarm update`.
    """
    scrape_token: str = ""
    """What callers of metrics show; empty in a fleet of an earlier version: nobody is served."""
    nodes_evicted: int = 0
    """Nodes removed by force: agents show registries of the fleet another password after each."""
