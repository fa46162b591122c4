"""Reads what lies on a task's way from the kernel. SHELL; in pool threads."""

from collections.abc import Mapping

from agent.network import message
from agent.network.filter import netfilter
from agent.network.names import Names
from agent.network.netlink import NETFILTER, Netlink, Refused
from agent.network.overlay.devices import Devices, neighbours
from agent.network.state import Address, Neighbour, Route
from agent.network.trace.way import Inside
from agent.network.vips.nftables import Table

_FORWARD = 2
_SEES_US = frozenset({"inet", "ip", "bridge"})
_NAME_BYTES = 16


def inside(task: Netlink, address: str) -> Inside:
    """What a task's namespace holds, and its way to an address."""
    devices = Devices(task)
    names = {index: link.name for index, link in devices.links.items()}
    return Inside(
        links={link.name: link for link in devices.links.values()},
        addresses=frozenset(
            Address(names.get(index, ""), cidr) for index, cidr in devices.addresses
        ),
        neighbours=frozenset(
            Neighbour(names[index], at, mac)
            for index, at, mac in neighbours(task, message.AF_INET)
            if index in names
        ),
        route=choice(task, names, address),
    )


def choice(socket: Netlink, names: Mapping[int, str], address: str) -> Route | None:
    """Which way the kernel sends packets to an address; None: nowhere."""
    try:
        body = socket.one(message.get_route(address))
    except Refused:
        return None
    if body is None:
        return None
    index, via = message.read_choice(body)
    return Route(dst=address, device=names.get(index, f"device {index}"), via=via)


def paired(names: Names, pair: tuple[str, str]) -> bool:
    """Whether the host's rules let packets pass from one device to another, and back."""
    table = Table(names.table)
    keys = [a + b for a, b in ((_padded(x), _padded(y)) for x, y in (pair, pair[::-1]))]
    with Netlink(NETFILTER) as host:
        return all(host.one(table.look_up("same_network", key)) is not None for key in keys)


def dropping(names: Names) -> tuple[str, ...]:
    """Others' chains that see what the host forwards and drop what they do not accept."""
    with Netlink(NETFILTER) as host:
        chains = [netfilter.read_chain(body) for body in host.dump(netfilter.dump_chains())]
    return tuple(
        f"table {chain.family} {chain.table} chain {chain.name}"
        for chain in chains
        if chain is not None
        and chain.hook == _FORWARD
        and chain.drops
        and chain.family in _SEES_US
        and chain.table != names.table
    )


def _padded(device: str) -> bytes:
    return device.encode().ljust(_NAME_BYTES, b"\0")
