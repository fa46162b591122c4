"""Values that the parts of the agent's network share, their error, and the `Resolvers` protocol.
PURE: values only.

Each part of the dataplane defines its protocol in `<part>/base.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from pyswarm_core.controlplane import ControlHost
from pyswarm_core.identity.certificates import EncryptionKey
from pyswarm_core.ids import NetworkId, ServiceId, TaskId
from pyswarm_core.objects import TaskAddress
from pyswarm_core.specs import PortConfig

VXLAN_OVERHEAD = 50
"""Outer Ethernet, IPv4, UDP and VXLAN headers, in bytes."""

HOST_BRIDGE = NetworkId("bridge")
"""The network of tasks that join no other: local to the host, not internal (Docker's `bridge`)."""

HOST_NETWORK = NetworkId("host")
"""No network of its own: the host's namespace (Docker's `host`)."""
NO_NETWORK = NetworkId("none")
"""A loopback only (Docker's `none`)."""

RESOLVER_ADDRESS = "127.0.0.11"
"""The resolver's address for tasks that have an overlay, on port 53 (Docker's)."""
RESOLVER_PORT = 61053
"""The port that the agent listens on instead, at the same address: the task may listen on port 53
itself. It is above the kernel's ephemeral ports, so no connection of the task can occupy it.
"""


class NetworkFailed(Exception):
    """The kernel's network could not be configured as desired.

    The text is one line, suitable as a task's message.
    """


class Underlay(msgspec.Struct, frozen=True, kw_only=True):
    """This host's end of every tunnel.

    `address` belongs to one of the host's devices; `port` is the fleet's UDP port.
    """

    address: str
    port: int = 4789


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Another host of a network: its underlay address and its blocks."""

    node_number: int
    address: str
    blocks: tuple[str, ...]
    addresses6: tuple[str, ...] = ()
    """The source addresses of its IPv6 requests to this host; only for the routing mesh."""


class DesiredOverlay(msgspec.Struct, frozen=True, kw_only=True):
    """One network as this host should carry it.

    `node_number` is this host's. `vni` 0 is a network of this host alone: no tunnel, no peers.
    `mtu` 0 is derived from the underlay's. `internal`: no route out. Blocks lie in `subnet`, and
    each belongs to one host.
    """

    network_id: NetworkId
    name: str
    subnet: str
    local_blocks: tuple[str, ...]
    vni: int = 0
    node_number: int = 0
    mtu: int = 0
    internal: bool = False
    peers: tuple[Peer, ...] = ()
    subnet6: str = ""
    """IPv6 addresses are computed from the IPv4 addresses; empty: the network has no IPv6."""
    gateway: str = ""
    """The tasks' next hop; empty: the first address of each block."""
    ingress: bool = False
    """The network of the routing mesh: answers return through the host that accepted the
    connection.
    """
    encrypted: bool = False
    """Packets between hosts must be encrypted; a host that cannot encrypt does not carry the
    network.
    """
    encryption_keys: tuple[EncryptionKey, ...] = ()
    """Newest first."""
    block_metadata: bool = False
    """Tasks may not reach the metadata service of the host's cloud."""


class Backend(msgspec.Struct, frozen=True, gc=False):
    """A task that may receive connections, and its address on the endpoint's network."""

    task_id: TaskId
    slot: int
    address: str


class DesiredEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One service as the tasks of one network reach it.

    Without `vip` its name resolves to the backends. `ports` are those of the routing mesh, set only
    on the ingress network's endpoint. `slot` of a global service's backend is its node's number.
    """

    service_id: ServiceId
    service_name: str
    network_id: NetworkId
    global_service: bool = False
    vip: str = ""
    aliases: tuple[str, ...] = ()
    backends: tuple[Backend, ...] = ()
    ports: tuple[PortConfig, ...] = ()
    digest: int = 0
    """The hash of the message that carried it (pyswarm_core/indexes/columns.py)."""

    @property
    def key(self) -> "EndpointKey":
        """The key that identifies the endpoint."""
        return self.service_id, self.network_id


EndpointKey = tuple[ServiceId, NetworkId]


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """Ports of this host (mode host), with their numbers, that are forwarded to one of its
    tasks.
    """

    task_id: TaskId
    network_id: NetworkId
    address: str
    ports: tuple[PortConfig, ...]


class ApiCaller(msgspec.Struct, frozen=True, kw_only=True):
    """A task of this host that may connect to the controllers' API."""

    task_id: TaskId
    addresses: tuple[TaskAddress, ...]


class ControlPlane(msgspec.Struct, frozen=True, kw_only=True):
    """What is closed to tasks, on whatever host: the ports of the control plane."""

    hosts: tuple[ControlHost, ...] = ()
    callers: tuple[ApiCaller, ...] = ()

    def closes(self, address: str, port: int) -> bool:
        """Whether tasks cannot connect to this port, unless they may call the API."""
        return any(
            address in host.addresses and any(port == each.port for each in host.endpoints)
            for host in self.hosts
        )


NO_CONTROL_PLANE = ControlPlane()


class Bandwidth(msgspec.Struct, frozen=True, kw_only=True):
    """Bits a second that a task may send and receive on an interface; 0: no limit."""

    egress: int = 0
    ingress: int = 0


UNLIMITED = Bandwidth()


class Interfaces(msgspec.Struct, frozen=True, kw_only=True):
    """What a task requests of its interfaces: the MAC of `eth0`, addresses and names by network,
    and the bandwidth of each. Empty: derived or chosen.
    """

    mac: str = ""
    addresses: dict[NetworkId, str] = {}
    names: dict[NetworkId, str] = {}
    """Of the interfaces that the task has; others get the lowest free name."""
    bandwidth: Bandwidth = UNLIMITED


ANY_INTERFACES = Interfaces()


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """One interface of a task.

    `address` lies in one of the network's local blocks: `10.128.0.5`. An empty `mac` is derived
    from it.
    """

    network_id: NetworkId
    address: str
    ifname: str = "eth0"
    mac: str = ""
    bandwidth: Bandwidth = UNLIMITED


class Drift(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One difference between plan and kernel.

    `kind` is link, address, route, neighbour, fdb, rule, port, setting, xfrm or rules.
    """

    kind: str
    detail: str


class Fault(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A part of one network that this host cannot implement. `reason` is one line for operators.

    `blocks`: this host's kernel is the cause, so the scheduler avoids this node for tasks of the
    network; otherwise the input is invalid, which no other host could implement either. `whole`: no
    task can use the network on this host.
    """

    network_id: NetworkId
    reason: str
    blocks: bool = True
    whole: bool = False


class Resolvers(Protocol):
    """The DNS resolvers of tasks. Every method is idempotent.

    Calls for one task must not overlap.
    """

    def replace(
        self, overlays: Iterable[DesiredOverlay], endpoints: Iterable[DesiredEndpoint]
    ) -> None:
        """Answer from exactly these networks and endpoints from now on."""
        ...

    def update(self, changed: Mapping[EndpointKey, DesiredEndpoint | None]) -> None:
        """Replace these endpoints (None: remove); all others stay."""
        ...

    async def open(
        self, task_id: TaskId, networks: Sequence[NetworkId], servers: Sequence[str]
    ) -> None:
        """Serve the task, whose namespace exists, with the names of these networks; the first has
        precedence. Other names are forwarded to `servers` from inside the namespace, or to the
        host's servers if there are none.

        Raises NetworkFailed.
        """
        ...

    async def close(self, task_id: TaskId) -> None:
        """Close the task's sockets, which hold its namespace. An unknown task is no error."""
        ...


def host_bridge(subnet: str) -> DesiredOverlay:
    """The network for tasks that join no other: one block, the whole subnet."""
    return DesiredOverlay(
        network_id=HOST_BRIDGE, name="bridge", subnet=subnet, local_blocks=(subnet,)
    )
