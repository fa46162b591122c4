"""What is stored: specs plus what the system decided and observed. PURE values.

A `Task` is flat and small because there may be a million of them; what only few tasks have (an
error's text, an exit code, addresses) is in `TaskDetail`, shared and empty for the rest.
docs/task-model.md states a task's laws.
"""

from enum import StrEnum
from typing import NamedTuple

import msgspec

from pyswarm_core.clock import Instant
from pyswarm_core.ids import NetworkId, NodeId, ServiceId, TaskId
from pyswarm_core.limits import DETAIL_LENGTH_OLD
from pyswarm_core.model import Model, docker_name
from pyswarm_core.specs import (
    ClusterSpec,
    NetworkSpec,
    NodeSpec,
    PortConfig,
    RegistryLogin,
    ServiceSpec,
    TaskSpec,
)
from pyswarm_core.states import NodeState, TaskState


class Version(Model, frozen=True):
    """For optimistic updates: an update names the index it is based on."""

    index: int = 0


class Object(Model, frozen=True):
    """What is stored under an id of its own. The struct of every kind has these as fields."""

    @property
    def id(self) -> str:
        """Unique among its kind, and never used again."""
        raise NotImplementedError

    @property
    def version(self) -> Version:
        """Moves on with every change that a user makes."""
        raise NotImplementedError

    @property
    def created_at(self) -> Instant:
        """When it was accepted."""
        raise NotImplementedError

    @property
    def updated_at(self) -> Instant:
        """When it changed last."""
        raise NotImplementedError


class PreviousSpec(Model, frozen=True):
    """A spec that a service had, for tasks still made from it and for going back."""

    version: int
    spec: ServiceSpec


class VirtualIp(Model, frozen=True):
    """The address that stands for a service on one network."""

    network_id: NetworkId
    addr: str


class Endpoint(Model, frozen=True):
    """How a service is reached: what was allocated for its endpoint spec."""

    ports: tuple[PortConfig, ...] = ()
    """As the spec's, with every published port of the mesh chosen."""
    virtual_ips: tuple[VirtualIp, ...] = ()


class Service(Object, frozen=True):
    """A service and its decided facts."""

    id: ServiceId
    spec: ServiceSpec
    version: Version = Version()
    created_at: Instant = Instant(0)
    updated_at: Instant = Instant(0)
    spec_version: int = 1
    template_version: int = 1
    """The spec version at which the task template last changed; tasks made from an older one are
    outdated.
    """
    previous_specs: tuple[PreviousSpec, ...] = ()
    """Newest first."""
    removing: bool = False
    """Its tasks are being shut down; its name is free again."""
    endpoint: Endpoint = Endpoint()
    registry_login: RegistryLogin | None = None
    """For pulling its image; nobody is ever told of it but agents that run its tasks."""

    def made_from(self, spec_version: int) -> ServiceSpec | None:
        """The spec that tasks of that version are made from; None if it is no longer kept."""
        if spec_version >= self.template_version:
            return self.spec
        for previous in self.previous_specs:
            if previous.version <= spec_version:
                return previous.spec
        return None

    def template(self, spec_version: int) -> TaskSpec | None:
        """The task template of that spec version; None if it is no longer kept."""
        spec = self.made_from(spec_version)
        return None if spec is None else spec.task_template


class TaskAddress(Model, frozen=True):
    """An address a task has on one network."""

    network_id: NetworkId
    address: str


class TaskDetail(Model, frozen=True):
    """What only some tasks have to tell."""

    message: str = ""
    """What is going on, for people."""
    error: str = ""
    exit_code: int = 0
    oom: bool = False
    pid: int = 0
    addresses: tuple[TaskAddress, ...] = ()
    serving: bool = False
    """It may receive connections: it runs, and listens on the TCP ports it publishes."""
    ports: tuple[PortConfig, ...] = ()
    """Published on its own host, with the numbers that were chosen."""


NO_DETAIL = TaskDetail()


def clipped(text: str, size: int) -> str:
    """The text, cut where needed to at most `size` bytes of UTF-8."""
    if 4 * len(text) <= size:
        return text
    data = text.encode(errors="replace")
    if len(data) <= size:
        return text
    dots = "..."[:size]
    return data[: size - len(dots)].decode(errors="ignore") + dots


def shortened(detail: TaskDetail) -> TaskDetail:
    """What is kept of a task that ended some tasks ago; the same object if that is all of it."""
    if not (detail.addresses or detail.ports or detail.message or detail.error):
        return detail
    short = TaskDetail(
        message=clipped(detail.message, DETAIL_LENGTH_OLD),
        error=clipped(detail.error, DETAIL_LENGTH_OLD),
        exit_code=detail.exit_code,
        oom=detail.oom,
        pid=detail.pid,
    )
    return detail if short == detail else short


class Task(msgspec.Struct, frozen=True, gc=False, rename=docker_name):
    """One execution of a service's template. Positional order is the hot path's; do not reorder."""

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
    """How many tasks with the same spec version ended by themselves in this slot before it."""
    detail: TaskDetail = NO_DETAIL
    restarted_at: tuple[Instant, ...] = ()
    """When the restarts that led to it began, oldest first: as many as the policy needs to count
    those within its window, at most RESTARTS_REMEMBERED. Stored of the newest task of a slot.
    """


class TaskStatus(NamedTuple):
    """What an agent reports of one task."""

    task_id: TaskId
    state: TaskState
    detail: TaskDetail


class Platform(Model, frozen=True):
    """What a node can execute, in Go's words (amd64, linux)."""

    architecture: str = "amd64"
    os: str = "linux"


class NodeResources(Model, frozen=True):
    """What a node has to give."""

    nano_cpus: int = 0
    memory_bytes: int = 0


class Capability(StrEnum):
    """A part of the kernel that some networks need and some hosts lack."""

    ESP = "esp"
    """IPsec's, with AES-GCM: for encrypted networks."""
    IPV6 = "ipv6"
    """For dual-stack networks."""


KERNEL_WITH = {
    Capability.ESP: "IPsec ESP and AES-GCM (CONFIG_XFRM_USER, CONFIG_INET_ESP, CONFIG_CRYPTO_GCM)",
    Capability.IPV6: "IPv6 (CONFIG_IPV6, and not ipv6.disable=1)",
}
"""What a host that lacks it wants of its kernel, for people."""


class NodeDescription(Model, frozen=True):
    """What an agent says of its host."""

    hostname: str
    platform: Platform = Platform()
    resources: NodeResources = NodeResources()
    engine_version: str = ""
    engine_labels: dict[str, str] = {}
    lacks: tuple[str, ...] = ()
    """The capabilities that its kernel has not. Words of another version say nothing."""
    max_tasks: int = 0
    """Tasks that it accepts at once, ended ones not counted; 0: it does not say."""
    protocol: int = 0
    """What its agent speaks (limits.py); 0: it told none."""

    @property
    def spoken(self) -> int:
        """The protocol that its agent speaks; one that tells none is the first version's."""
        return self.protocol or 1


class NodeFault(Model, frozen=True):
    """Something of one network that a host cannot do, in its agent's words."""

    network_id: NetworkId
    """Empty: it concerns every network, and with `blocks` every task."""
    reason: str
    blocks: bool = False
    """Tasks of the network are better elsewhere."""


class NodeStatus(Model, frozen=True):
    """What the leader knows of a node."""

    state: NodeState = NodeState.UNKNOWN
    since: Instant = Instant(0)
    """When it entered this state. Nothing else moves it: what counts from the state counts from
    here.
    """
    message: str = ""
    addr: str = ""
    """Its address on the underlay: where the others' VXLAN packets go."""
    addrs6: tuple[str, ...] = ()
    """Its own of IPv6, by which the routing mesh's hosts know it when it asks one of them."""
    faults: tuple[NodeFault, ...] = ()
    """What it cannot do of its networks, as its agent said last."""


class Node(Object, frozen=True):
    """A host that joined."""

    id: NodeId
    number: int
    """1, 2, 3…; never given to another node."""
    description: NodeDescription
    spec: NodeSpec = NodeSpec()
    version: Version = Version()
    created_at: Instant = Instant(0)
    updated_at: Instant = Instant(0)
    status: NodeStatus = NodeStatus()


class Block(Model, frozen=True):
    """A piece of a network's subnet and the node that hands out its addresses."""

    cidr: str
    node_number: int


class Network(Object, frozen=True):
    """An overlay network and what was allocated for it."""

    id: NetworkId
    spec: NetworkSpec
    subnet: str
    vni: int
    version: Version = Version()
    created_at: Instant = Instant(0)
    updated_at: Instant = Instant(0)
    blocks: tuple[Block, ...] = ()
    subnet6: str = ""
    """Its addresses follow from those of IPv4, see addresses.py; empty: no IPv6."""

    @property
    def meshes6(self) -> bool:
        """Whether it is of the routing mesh and has IPv6."""
        return self.spec.ingress and bool(self.subnet6)

    @property
    def needs(self) -> tuple[Capability, ...]:
        """What a host's kernel must have to carry it."""
        esp = (Capability.ESP,) if self.spec.encrypted else ()
        return (*esp, Capability.IPV6) if self.subnet6 else esp


class EncryptionKey(Model, frozen=True):
    """Of IPsec between hosts; made and replaced by the leader."""

    number: int
    """Part of the SPI; 1, 2, 3…"""
    secret: bytes
    """AES-128 key and salt (RFC 4106), 20 bytes."""
    created_at: Instant = Instant(0)


class Cluster(Object, frozen=True):
    """The fleet's settings and counters; there is exactly one."""

    id: str
    spec: ClusterSpec = ClusterSpec()
    version: Version = Version()
    created_at: Instant = Instant(0)
    updated_at: Instant = Instant(0)
    worker_token: str = ""
    manager_token: str = ""
    next_node_number: int = 1
    next_vni: int = 4096
    """Swarm's first VNI."""
    encryption_keys: tuple[EncryptionKey, ...] = ()
    """Newest first; none while no network is encrypted."""
