"""Reads kernel state on a task's path that no plan contains. SHELL; in pool threads."""

from agent.network import message
from agent.network.filter import netfilter
from agent.network.netlink import NETFILTER, Netlink, Refused
from agent.network.overlay.devices import Devices
from agent.network.trace.differences import ChosenRoute

_FORWARD = 2
_SEES_US = frozenset({"inet", "ip", "ip6", "bridge"})


def route(socket: Netlink, address: str) -> ChosenRoute:
    """The route to the address that the kernel of the socket's namespace chooses."""
    try:
        body = socket.one(message.get_route(address))
    except Refused:
        body = None
    if body is None:
        return ChosenRoute()
    index, via, source = message.read_choice(body)
    link = Devices(socket).links[index]
    return ChosenRoute(device=link.name, via=via, source=source, mtu=link.mtu)


def dropping(own_table: str) -> tuple[str, ...]:
    """Foreign chains in the forward hook that drop packets by default."""
    with Netlink(NETFILTER) as host:
        chains = [netfilter.read_chain(body) for body in host.dump(netfilter.dump_chains())]
    return tuple(
        f"table {chain.family} {chain.table} chain {chain.name}"
        for chain in chains
        if chain is not None
        and chain.hook == _FORWARD
        and chain.drops
        and chain.family in _SEES_US
        and chain.table != own_table
    )
