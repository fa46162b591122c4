"""The interfaces of a task: a plug per attachment, and the messages that configure the inside of
its namespace. PURE.

Invariant: a task's plugs depend only on its id, its attachments and the networks, so an adopted
task's plugs can be recomputed and compared with what exists.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv4Network

import msgspec

from agent.network import message
from agent.network.base import (
    UNLIMITED,
    Attachment,
    Bandwidth,
    DesiredOverlay,
    NetworkFailed,
)
from agent.network.ipam import gateway
from agent.network.names import Names, gateway_mac, task_mac
from agent.network.overlay.plan import has_fast_path, network_mtu
from agent.network.state import Link, Neighbour, Route, Rule
from pyswarm_core.addresses import address6, block6
from pyswarm_core.ids import NetworkId, TaskId

_LOOPBACK = 1
# A new namespace may hold fallback tunnel devices (tunl0, sit0 and so on) with the first indexes.
_FIRST_INDEX = 64
_MESH_TABLE = 97
_MESH_PRIORITY = 1000


class Ipv6Interface(msgspec.Struct, frozen=True, kw_only=True):
    """The IPv6 of an interface; its routes and rules are those of its plug."""

    cidr: str
    gateway: Neighbour


class Plug(msgspec.Struct, frozen=True, kw_only=True):
    """One interface of a task, ready to be created. `routes` are those out of its block, used for
    some packets by `rules`; `six` is None on a network without IPv6. `neighbours` are the host's
    entries for the task behind the port, which the fast path uses to bypass the bridge; empty
    without the fast path.
    """

    index: int
    bridge: str
    port: Link
    inside: Link
    cidr: str
    gateway: Neighbour
    routes: tuple[Route, ...]
    rules: tuple[Rule, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    six: Ipv6Interface | None = None
    bandwidth: Bandwidth = UNLIMITED

    @property
    def identity(self) -> tuple[str, str, str]:
        """What an interface keeps: its name, MAC and address. With another one it is made anew."""
        return self.inside.name, self.inside.mac, self.cidr

    @property
    def addresses(self) -> tuple[str, ...]:
        """The task's addresses on this interface, of both versions."""
        cidrs = (self.cidr, self.six.cidr) if self.six else (self.cidr,)
        return tuple(cidr.partition("/")[0] for cidr in cidrs)


class _Family(msgspec.Struct, frozen=True):
    """One IP version of an attachment."""

    subnet: str
    block: str
    address: str
    next_hop: str
    """Next hop outside the block: the network's gateway, or the block's first address."""
    anywhere: str


def plugs(
    task_id: TaskId,
    attachments: Sequence[Attachment],
    overlays: Mapping[NetworkId, DesiredOverlay],
    names: Names,
    underlay_mtu: int,
    *,
    fast_path: bool = True,
) -> tuple[Plug, ...]:
    """The task's plugs; without `fast_path` they have no neighbour entries on the host.

    Raises NetworkFailed for a network or an address that is not this host's.
    """
    made = []
    joined = [overlays.get(attachment.network_id) for attachment in attachments]
    out, out6 = (
        default_network(joined),
        default_network([o if o and o.subnet6 else None for o in joined]),
    )
    for number, attachment in enumerate(attachments):
        overlay = overlays.get(attachment.network_id)
        if overlay is None:
            raise NetworkFailed(f"network {attachment.network_id} is not on this node")
        block = _block_of(attachment.address, overlay)
        mtu = network_mtu(overlay, underlay_mtu)
        via, ifname = overlay.gateway or gateway(block), attachment.ifname
        family = _Family(overlay.subnet, block, attachment.address, via, "0.0.0.0/0")
        port = names.veth(task_id, overlay.network_id)
        mac = attachment.mac or task_mac(attachment.address)
        neighbour = Neighbour(port, attachment.address, mac)
        plug = Plug(
            index=_index(ifname),
            bridge=names.bridge(overlay.network_id),
            port=Link(name=port, kind="veth", mtu=mtu),
            inside=Link(name=ifname, mac=mac, mtu=mtu),
            cidr=_cidr(family),
            gateway=_gateway(family, ifname, overlay),
            routes=_routes(family, ifname, is_mesh=overlay.ingress, is_out=number == out),
            rules=_rules(family.address) if overlay.ingress else (),
            neighbours=(neighbour,) if fast_path and has_fast_path(overlay) else (),
            bandwidth=attachment.bandwidth,
        )
        made.append(
            _dual(plug, family, overlay, is_out=number == out6) if overlay.subnet6 else plug
        )
    return tuple(made)


def _index(ifname: str) -> int:
    """The index of an interface of that name; another one stays when the task leaves a network."""
    return _FIRST_INDEX + int(ifname.removeprefix("eth"))


def _dual(plug: Plug, family: _Family, overlay: DesiredOverlay, *, is_out: bool) -> Plug:
    pair = overlay.subnet, overlay.subnet6
    six = _Family(
        overlay.subnet6,
        block6(*pair, family.block),
        address6(*pair, family.address),
        address6(*pair, family.next_hop),
        "::/0",
    )
    ifname = plug.inside.name
    routes = _routes(six, ifname, is_mesh=overlay.ingress, is_out=is_out)
    return msgspec.structs.replace(
        plug,
        routes=(*plug.routes, *routes),
        rules=(*plug.rules, *(_rules(six.address) if overlay.ingress else ())),
        neighbours=(
            *plug.neighbours,
            *(
                msgspec.structs.replace(neighbour, address=six.address)
                for neighbour in plug.neighbours
            ),
        ),
        six=Ipv6Interface(cidr=_cidr(six), gateway=_gateway(six, ifname, overlay)),
    )


def _cidr(family: _Family) -> str:
    return f"{family.address}/{family.block.partition('/')[2]}"


def _gateway(family: _Family, ifname: str, overlay: DesiredOverlay) -> Neighbour:
    return Neighbour(ifname, family.next_hop, gateway_mac(overlay.network_id))


def inside_messages(wiring: Sequence[Plug], host_fd: int, *, dual: bool) -> list[bytes]:
    """The configuration of these interfaces inside the namespace: veth pairs first, then addresses
    and routes. `dual`: an interface of the task, one of these or another, has IPv6.
    """
    messages = [message.up(_LOOPBACK)]
    for plug in wiring:
        messages.append(message.make_veth(plug.inside, plug.index, plug.port, host_fd))
        if dual and not plug.six:
            messages.append(message.without_ipv6(plug.index))
        messages.append(message.up(plug.index))
        for family in (plug, plug.six) if plug.six else (plug,):
            messages.append(message.inside_address(plug.index, family.cidr))
            messages.append(message.neighbour(plug.index, family.gateway))
        messages += (message.route(plug.index, entry) for entry in plug.routes)
        messages += (message.rule(entry) for entry in plug.rules)
    return messages


def rerouted(before: Plug | None, plug: Plug) -> list[bytes]:
    """What changes the routes of an interface that stays while the task joins or leaves other
    networks. None: they are not known, so all are set again, and none is removed.
    """
    old = before.routes if before is not None else ()
    gone = [
        message.route(plug.index, entry, add=False) for entry in old if entry not in plug.routes
    ]
    return gone + [message.route(plug.index, entry) for entry in plug.routes if entry not in old]


def stale_neighbours(wiring: Sequence[Plug]) -> list[tuple[str, Neighbour]]:
    """The entries of bridges that are wrong before and after a task with a MAC of its own: others
    with its address have another one.
    """
    return [
        (plug.bridge, Neighbour(plug.bridge, address, plug.inside.mac))
        for plug in wiring
        if plug.inside.mac != task_mac(plug.addresses[0])
        for address in plug.addresses
    ]


def _routes(family: _Family, ifname: str, *, is_mesh: bool, is_out: bool) -> tuple[Route, ...]:
    mesh: tuple[Route, ...] = ()
    # A next hop shared by all hosts is outside the task's block.
    out = partial(
        Route, device=ifname, via=family.next_hop, onlink=family.next_hop != gateway(family.block)
    )
    if is_mesh:
        mesh = (
            Route(dst=family.block, device=ifname, table=_MESH_TABLE),
            out(dst=family.anywhere, table=_MESH_TABLE),
        )
    if is_out:
        return (*mesh, out(dst=family.anywhere))
    return (*mesh, out(dst=family.subnet)) if family.subnet != family.block else mesh


def _rules(address: str) -> tuple[Rule, ...]:
    """Answers leave by the routing mesh, through which the request came, even to a client whose
    network the task has joined: the host must see both directions.
    """
    six = ":" in address
    return (Rule(priority=_MESH_PRIORITY, source=address, table=_MESH_TABLE, six=six),)


def default_network(overlays: Sequence[DesiredOverlay | None]) -> int | None:
    """The index of the network that holds the default route.

    Answers to clients of the routing mesh must leave by its network; without it, the first network
    that is not internal.
    """
    ways = [(not o.ingress, n) for n, o in enumerate(overlays) if o is not None and not o.internal]
    return min(ways)[1] if ways else None


def _block_of(address: str, overlay: DesiredOverlay) -> str:
    for block in overlay.local_blocks:
        if int(IPv4Address(address)) in _hosts(block):
            return block
    blocks = ", ".join(overlay.local_blocks) or "none"
    raise NetworkFailed(
        f"address {address} is not in this node's blocks of network {overlay.name} ({blocks})"
    )


@lru_cache(maxsize=4096)
def _hosts(block: str) -> range:
    network = IPv4Network(block)
    return range(int(network.network_address) + 2, int(network.broadcast_address))
