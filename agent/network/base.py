"""What the parts of the agent's network are told and tell: values, an error, and the `Resolvers`
protocol. PURE: values only.

Each part of the dataplane has its protocol in `<part>/base.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from pyswarm_core.ids import NetworkId, ServiceId, TaskId
from pyswarm_core.objects import EncryptionKey
from pyswarm_core.specs import PortConfig

VXLAN_OVERHEAD = 50
"""Outer Ethernet, IPv4, UDP and VXLAN headers, in bytes."""

HOST_BRIDGE = NetworkId("bridge")
"""The network of tasks that join none: local to the host, with a way out (Docker's `bridge`)."""

HOST_NETWORK = NetworkId("host")
"""No network of its own: the host's namespace (Docker's `host`)."""
NO_NETWORK = NetworkId("none")
"""Only a loopback (Docker's `none`)."""

RESOLVER_ADDRESS = "127.0.0.11"
"""Where a task that has an overlay asks for names, on port 53 (Docker's)."""
RESOLVER_PORT = 61053
"""Where the agent answers instead, on the same address: the task may listen on port 53 itself.
Above the kernel's ephemeral ports, so no connection of the task ever holds it.
"""


class NetworkFailed(Exception):
    """The kernel's network could not be made as wanted.

    The text is one line, fit for a task's message.
    """


class Underlay(msgspec.Struct, frozen=True, kw_only=True):
    """Where this host's end of every tunnel is.

    An address one of its devices has, and the fleet's UDP port.
    """

    address: str
    port: int = 4789


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Another host of one network: its underlay address and the blocks whose tasks live there."""

    node_number: int
    address: str
    blocks: tuple[str, ...]
    addresses6: tuple[str, ...] = ()
    """By which it comes when it asks this host by IPv6; only of the routing mesh."""


class DesiredOverlay(msgspec.Struct, frozen=True, kw_only=True):
    """One network as this host should carry it.

    `node_number` is this host's. `vni` 0 is a network of this host alone: no tunnel, no peers.
    `mtu` 0 is derived from the underlay's. `internal`: no way out. Blocks lie in `subnet` and
    belong to one host each.
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
    """Its IPv6 addresses follow from those of IPv4; empty: none."""
    gateway: str = ""
    """The tasks' next hop; empty: the first address of each block."""
    ingress: bool = False
    """Of the routing mesh: answers return by the host that a connection entered by."""
    encrypted: bool = False
    """Packets between hosts must be sealed; a host that cannot does not carry the network."""
    encryption_keys: tuple[EncryptionKey, ...] = ()
    """Newest first."""


class Backend(msgspec.Struct, frozen=True, gc=False):
    """A task that may receive connections, and its address on the endpoint's network."""

    task_id: TaskId
    slot: int
    address: str


class DesiredEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One service as the tasks of one network reach it.

    Without `vip` its name resolves to the backends. `ports` are those of the routing mesh, given
    only with the ingress network's endpoint. `slot` of a global service's backend is its node's
    number.
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
    """Of the message that it was told by (pyswarm_core/indexes/columns.py)."""

    @property
    def key(self) -> "EndpointKey":
        """What it is known by."""
        return self.service_id, self.network_id


EndpointKey = tuple[ServiceId, NetworkId]


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """Ports of this host (mode host) that are forwarded to one of its tasks, with their numbers."""

    task_id: TaskId
    network_id: NetworkId
    address: str
    ports: tuple[PortConfig, ...]


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """One interface of a task.

    `address` lies in one of the network's local blocks: `10.128.0.5`.
    """

    network_id: NetworkId
    address: str
    ifname: str = "eth0"


class Drift(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One thing that is not as it should be.

    `kind` is link, address, route, neighbour, fdb, rule, port, setting, xfrm or rules.
    """

    kind: str
    detail: str


class Fault(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """Something of one network that this host cannot do. `reason` is one line for people.

    `blocks`: this host's kernel is to blame, so that tasks of the network are better elsewhere;
    otherwise what the host was told makes no sense, and would nowhere. `whole`: no task can be on
    the network here.
    """

    network_id: NetworkId
    reason: str
    blocks: bool = True
    whole: bool = False


class Resolvers(Protocol):
    """The resolvers that tasks ask for names. Every method is idempotent.

    Calls for one task must not overlap.
    """

    def replace(
        self, overlays: Iterable[DesiredOverlay], endpoints: Iterable[DesiredEndpoint]
    ) -> None:
        """Answer from exactly these from now on."""
        ...

    def update(self, changed: Mapping[EndpointKey, DesiredEndpoint | None]) -> None:
        """These endpoints are others now (None: gone), and the rest is as it was."""
        ...

    async def open(
        self, task_id: TaskId, networks: Sequence[NetworkId], servers: Sequence[str]
    ) -> None:
        """Answer the task, whose namespace exists, as one of these networks, the first of which
        counts most. Other names are asked of `servers` from inside the namespace, or of the
        host's own if there are none.

        Raises NetworkFailed.
        """
        ...

    async def close(self, task_id: TaskId) -> None:
        """Let go of the task's namespace. Unknown: no error."""
        ...


def host_bridge(subnet: str) -> DesiredOverlay:
    """The network for tasks that join none: one block that is the whole subnet."""
    return DesiredOverlay(
        network_id=HOST_BRIDGE, name="bridge", subnet=subnet, local_blocks=(subnet,)
    )
