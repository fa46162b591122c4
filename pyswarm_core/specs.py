"""Specs: what users request. PURE values; the system never edits an accepted one.

The shapes, names and defaults are those of Docker's Engine API (durations in nanoseconds, sizes in
bytes, CPUs in billionths), so that flags, templates and stack files carry over. `validation/` says
which values are allowed.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar

from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.identity.limits import CERT_EXPIRY
from pyswarm_core.ids import NetworkId
from pyswarm_core.limits import AGENT_GRACE, HISTORY_MAX
from pyswarm_core.model import Model
from pyswarm_core.payloads.references import ConfigReference, Reference, SecretReference
from pyswarm_core.resources import Limits as Limits
from pyswarm_core.resources import Reservations as Reservations
from pyswarm_core.resources import Resources as Resources
from pyswarm_core.stacks.dependencies import Dependency
from pyswarm_core.states import Availability
from pyswarm_core.volumes.mounts import Mount, volumes_of, writes_volumes


class RestartCondition(StrEnum):
    """When an ended task is replaced."""

    NONE = "none"
    ON_FAILURE = "on-failure"
    ANY = "any"


class Ulimit(Model, frozen=True):
    """One resource limit of a process; -1 is unlimited."""

    name: str
    soft: int
    hard: int


class DnsConfig(Model, frozen=True):
    """The DNS configuration of a container, in addition to the fleet's names. Empty: the host's."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class HealthConfig(Model, frozen=True):
    """A periodic check of a task, as Docker's HEALTHCHECK. Durations in nanoseconds; a field that
    is 0 or empty has the image's value, otherwise the engine's default.
    """

    test: tuple[str, ...] = ()
    """`NONE`; `CMD`, ARG...; `CMD-SHELL`, COMMAND; and checks that the agent makes in the task's
    network namespace: `HTTP`, PORT/PATH; `TCP`, PORT; `GRPC`, PORT[/SERVICE].
    """
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class Device(Model, frozen=True):
    """A device of the host, or a directory of devices, in a container."""

    path_on_host: str
    path_in_container: str = ""
    """Empty: the same path."""
    cgroup_permissions: str = "rwm"
    """What processes may do with it: read, write, mknod."""


class ContainerSpec(Model, frozen=True):
    """How to run one container. Empty fields: the image's settings."""

    image: str
    labels: dict[str, str] = {}
    command: tuple[str, ...] = ()
    """Replaces the image's entrypoint (Docker's `--entrypoint`)."""
    args: tuple[str, ...] = ()
    """Replaces the image's command."""
    env: tuple[str, ...] = ()
    """`NAME=value`, later ones win; `NAME` takes away the image's."""
    dir: str = ""
    user: str = ""
    groups: tuple[str, ...] = ()
    hostname: str = ""
    init: bool = False
    tty: bool = False
    read_only: bool = False
    stop_signal: str = ""
    stop_grace_period: int = 10 * SECOND
    """Nanoseconds between the stop signal and SIGKILL."""
    capability_add: tuple[str, ...] = ()
    capability_drop: tuple[str, ...] = ()
    sysctls: dict[str, str] = {}
    ulimits: tuple[Ulimit, ...] = ()
    oom_score_adj: int = 0
    hosts: tuple[str, ...] = ()
    """Additional lines of /etc/hosts: `10.0.0.5 db db.example`."""
    dns_config: DnsConfig = DnsConfig()
    healthcheck: HealthConfig = HealthConfig()
    """A task whose check fails is stopped and replaced."""
    readiness: HealthConfig = HealthConfig()
    """A task whose check fails receives no connections; it is not replaced. No test: no check."""
    privileged: bool = False
    """All capabilities and devices, no seccomp filter, no masked paths."""
    security_opt: tuple[str, ...] = ()
    """`seccomp=unconfined`; `docker/isolation/security.py` reads it."""
    tmpfs: dict[str, str] = {}
    """Path -> mount options: `size=64m,mode=1777`."""
    shm_size: int = 0
    """Bytes of /dev/shm; 0 is Docker's 64 MiB."""
    pid_mode: str = ""
    """`host`; empty: a namespace of its own."""
    ipc_mode: str = ""
    """`host`, `private`, `shareable` or `none` (private without /dev/shm); empty: private."""
    uts_mode: str = ""
    """`host`; empty: a namespace of its own."""
    userns_mode: str = ""
    """`auto` or `private`: a user namespace with a range of ids of the task's own; `host` or empty:
    the host's.
    """
    cgroupns_mode: str = ""
    """`host` or `private`; empty: private on cgroup v2, the host's on v1."""
    devices: tuple[Device, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()
    """`c 10:200 rwm`, as the kernel's device rules."""
    annotations: dict[str, str] = {}
    """Annotations of the OCI configuration."""
    mac_address: str = ""
    """Of the first interface; empty: derived from its address."""
    open_stdin: bool = False
    """The standard input stays open, also while nobody is attached."""
    stdin_once: bool = False
    """It is closed when the first client that attached to it leaves."""
    attach_by: Instant = Instant(0)
    """The program starts once a client is attached, at the latest at this time (and ATTACH_WAIT);
    0: at once.
    """
    mounts: tuple[Mount, ...] = ()
    secrets: tuple[SecretReference, ...] = ()
    configs: tuple[ConfigReference, ...] = ()

    @property
    def references(self) -> tuple[Reference, ...]:
        """The secrets and configs that it uses."""
        return (*self.secrets, *self.configs)


class RestartPolicy(Model, frozen=True):
    """Whether, when and how often an ended task is replaced. Defaults are Swarm's."""

    condition: RestartCondition = RestartCondition.ANY
    delay: int = 5 * SECOND
    max_attempts: int = 0
    """0 is unlimited."""
    window: int = 0
    """Nanoseconds within which attempts count; 0 is unlimited."""
    max_delay: int = 0
    """The delay doubles with every restart in a row, up to this; 0: it stays the same."""


class Placement(Model, frozen=True):
    """Where tasks may run and how they spread."""

    constraints: tuple[str, ...] = ()
    """`node.labels.zone==a`, all must hold."""
    preferences: tuple[str, ...] = ()
    """Labels to spread over, outermost first: `node.labels.zone`."""
    max_replicas: int = 0
    """Per node; 0 is unlimited."""
    volumes: str = ""
    """`pinned` or `any`: of volumes that its first task creates; empty: pinned, of a global service
    any.
    """

    @property
    def leaves_volumes(self) -> bool:
        """Whether tasks may start without the data of a volume, on a copy of another node."""
        return self.volumes == "any"


PREDEFINED_NETWORKS = ("host", "none", "bridge")
"""Networks that every host has. They are not objects, and a service that names one names no other;
a container may have others beside `bridge`.
"""
HOST_NETWORK, NO_NETWORK, BRIDGE_NETWORK = PREDEFINED_NETWORKS


class NetworkAttachment(Model, frozen=True):
    """One network that a service's tasks join."""

    target: str
    """The network's id (the API resolves names before it stores a spec), or a predefined name."""
    aliases: tuple[str, ...] = ()
    ip: str = ""
    """The service's virtual address on it; empty: the allocator chooses one."""
    task_ip: str = ""
    """The address of its only task on it; empty: the task's agent chooses one."""


class LogDriver(Model, frozen=True):
    """Where the output of a container goes."""

    name: str = ""
    """One of `docker.logdrivers.DRIVERS`; empty: json-file."""
    options: dict[str, str] = {}


class TaskSpec(Model, frozen=True):
    """The task template: what every task of a service is made from."""

    container_spec: ContainerSpec
    resources: Resources = Resources()
    restart_policy: RestartPolicy = RestartPolicy()
    placement: Placement = Placement()
    networks: tuple[NetworkAttachment, ...] = ()
    """The ingress network is the last, if the service publishes through the routing mesh."""
    force_update: int = 0
    allow_fleet_api: bool = False
    """The tasks may connect to the controllers' API, which is closed to others."""
    log_driver: LogDriver = LogDriver()

    @property
    def volumes(self) -> tuple[str, ...]:
        """The names of the volumes that its tasks mount."""
        mounts = self.container_spec.mounts
        return volumes_of(mounts) if mounts else ()

    @property
    def writes_volumes(self) -> bool:
        """Whether its tasks mount a named volume read-write: then a slot has one task at a time."""
        return writes_volumes(self.container_spec.mounts)

    @property
    def task_ips(self) -> dict[NetworkId, str]:
        """The addresses that its only task must have."""
        return {
            NetworkId(joined.target): joined.task_ip for joined in self.networks if joined.task_ip
        }

    @property
    def overlays(self) -> tuple[NetworkId, ...]:
        """The overlay networks among those that its tasks join."""
        return tuple(
            NetworkId(attachment.target)
            for attachment in self.networks
            if attachment.target not in PREDEFINED_NETWORKS
        )


class Mode(Model, frozen=True):
    """The base of a service's modes. The tag is the mode's name."""

    per_node: ClassVar[bool] = False
    """Whether each slot belongs to a node: its number is the node's, and its task runs there."""
    is_container: ClassVar[bool] = False
    """Whether its one task has a writable layer that outlives it."""

    @property
    def word(self) -> str:
        """The mode's name, as users write and see it."""
        return str(self.__struct_config__.tag)


class ReplicatedMode(Mode, frozen=True, tag="replicated"):
    """A number of replicas."""

    replicas: int = 1


class GlobalMode(Mode, frozen=True, tag="global"):
    """One task on every eligible node."""

    per_node: ClassVar[bool] = True


class ContainerMode(Mode, frozen=True, tag="container"):
    """One replica, as `docker run` makes it: its writable layer is kept on its node until the
    service is removed.
    """

    is_container: ClassVar[bool] = True
    replicas: ClassVar[int] = 1
    auto_remove: bool = False
    """It is removed once its task has ended and is not restarted (`--rm`)."""
    unless_stopped: bool = False
    """The restart policy was given as `unless-stopped`, which `inspect` shows. Here `always` does
    the same: a container that its users stopped stays so.
    """


ServiceMode = ReplicatedMode | GlobalMode | ContainerMode

SERVICE_MODES: Mapping[str, type[ServiceMode]] = MappingProxyType(
    {"replicated": ReplicatedMode, "global": GlobalMode, "container": ContainerMode}
)
"""By name. controller/brain/orchestrator/modes.py has the orchestrator of each mode."""


class UpdateOrder(StrEnum):
    """Whether an update ends a slot's old task before the new one starts, or after it runs."""

    STOP_FIRST = "stop-first"
    START_FIRST = "start-first"


class FailureAction(StrEnum):
    """What an update does when more of its tasks fail than tolerated."""

    PAUSE = "pause"
    CONTINUE = "continue"
    ROLLBACK = "rollback"


class UpdateConfig(Model, frozen=True):
    """How an update or a rollback replaces tasks. Defaults are Swarm's."""

    parallelism: int = 1
    """Slots updated at once; 0 is all."""
    delay: int = 0
    """Nanoseconds between the end of one slot's update and the next slot."""
    failure_action: FailureAction = FailureAction.PAUSE
    monitor: int = 5 * SECOND
    """Nanoseconds after a new task runs during which its end counts as a failure."""
    max_failure_ratio: float = 0.0
    """The share of failed slots to tolerate, 0 to 1."""
    order: UpdateOrder = UpdateOrder.STOP_FIRST


class EndpointMode(StrEnum):
    """What a service's name resolves to: one virtual address, or its tasks' addresses."""

    VIP = "vip"
    DNSRR = "dnsrr"


class Protocol(StrEnum):
    """The protocol of a published port."""

    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"


class PublishMode(StrEnum):
    """Where connections to a published port are accepted: on every host, or on those that run a
    task of the service.
    """

    INGRESS = "ingress"
    HOST = "host"


class PortConfig(Model, frozen=True):
    """One published port."""

    target_port: int
    protocol: Protocol = Protocol.TCP
    published_port: int = 0
    """0: the allocator chooses one."""
    publish_mode: PublishMode = PublishMode.INGRESS
    host_ip: str = ""
    """An address or the name of a device of the host; empty: all of them."""


class EndpointSpec(Model, frozen=True):
    """How clients reach a service."""

    mode: EndpointMode = EndpointMode.VIP
    ports: tuple[PortConfig, ...] = ()


class ServiceSpec(Model, frozen=True):
    """A service as its user specified it."""

    name: str
    task_template: TaskSpec
    labels: dict[str, str] = {}
    mode: ServiceMode = ReplicatedMode()
    endpoint_spec: EndpointSpec = EndpointSpec()
    update_config: UpdateConfig = UpdateConfig()
    rollback_config: UpdateConfig = UpdateConfig()
    stopped: bool = False
    """No task runs; the number of replicas is kept."""
    depends_on: tuple[Dependency, ...] = ()


class RegistryLogin(Model, frozen=True):
    """A login to one registry for the tasks of one service. Stored beside its spec; no API returns
    it.
    """

    registry: str
    """HOST[:PORT]; it is sent to no other registry."""
    username: str
    password: str

    def __repr__(self) -> str:
        return f"RegistryLogin(registry={self.registry!r}, username={self.username!r})"


ROLES = ("worker", "manager")
"""A manager's host runs a controller."""


class NodeSpec(Model, frozen=True):
    """What the operator specifies about a node."""

    labels: dict[str, str] = {}
    role: str = "worker"
    availability: Availability = Availability.ACTIVE
    move_volumes: bool = False
    """Of a drained node: the volumes with their only copies there are moved."""


class IpamConfig(Model, frozen=True):
    """One pool of addresses; with an empty subnet the allocator chooses one. At most one pool per
    IP version.
    """

    subnet: str = ""
    gateway: str = ""
    """The tasks' next hop, the same on every host; empty: the first address of each block."""
    ip_range: str = ""
    """The part of the subnet that addresses are taken from; empty: all of it."""


class Ipam(Model, frozen=True):
    """Where a network's addresses come from."""

    driver: str = "default"
    config: tuple[IpamConfig, ...] = ()


class NetworkSpec(Model, frozen=True):
    """A network as its user specified it."""

    name: str
    driver: str = "overlay"
    labels: dict[str, str] = {}
    internal: bool = False
    """No connections to addresses outside the network."""
    ipam: Ipam = Ipam()
    mtu: int = 0
    """0 is the underlay's MTU less 50, the cost of VXLAN."""
    attachable: bool = False
    """Accepted for compatibility with Docker; only services join networks."""
    ingress: bool = False
    """The ingress network; there is at most one."""
    enable_ipv6: bool = False
    encrypted: bool = False
    """IPsec between hosts (RFC 4303, RFC 4106)."""
    block_metadata: bool = False
    """Its tasks cannot reach the metadata services of clouds (169.254.169.254)."""


def ipv4_config(spec: NetworkSpec) -> IpamConfig:
    """The pool of IPv4 addresses."""
    return next((one for one in spec.ipam.config if ":" not in one.subnet), IpamConfig())


def ipv6_config(spec: NetworkSpec) -> IpamConfig:
    """The pool of IPv6 addresses."""
    return next((one for one in spec.ipam.config if ":" in one.subnet), IpamConfig())


class ClusterSpec(Model, frozen=True):
    """Settings of the whole fleet."""

    name: str = "default"
    heartbeat_period: int = 1 * SECOND
    """The heartbeat period of a small fleet; it grows with the fleet."""
    agent_grace: int = AGENT_GRACE
    """When a silent agent whose host answers probes is down; at least three heartbeat periods."""
    task_history_limit: int = 5
    """Ended tasks kept per slot (Swarm's default)."""
    default_address_pool: tuple[str, ...] = ("10.128.0.0/9",)
    subnet_size: int = 16
    """Prefix length of an overlay's subnet."""
    data_path_port: int = 4789
    """UDP port of VXLAN (RFC 7348)."""
    cert_expiry: int = CERT_EXPIRY
    """The lifetime of a new certificate."""
    autolock: bool = False
    """A restarted controller is locked until somebody enters the unlock key."""
    allowed_bind_paths: tuple[str, ...] = ()
    """Operators may bind what is beneath these paths of the nodes."""

    @property
    def history_kept(self) -> int:
        """How many ended tasks of a slot are kept; a negative limit keeps as many as possible."""
        limit = self.task_history_limit
        return min(limit, HISTORY_MAX) if limit >= 0 else HISTORY_MAX
