"""Where the control plane listens, from a controller's configuration and what agents report. PURE.

Names are resolved by the caller. An etcd at a loopback address is this host's, on all its
addresses: etcd's own configuration is unknown.
"""

from collections.abc import Iterable, Mapping

import msgspec

from controller.brain.slices import Slices, batches
from controller.config import Config
from pyswarm_core.controlplane import (
    ControlEndpoint,
    ControlHost,
    checked_hosts,
    listening_on,
    split_address,
)
from pyswarm_core.limits import CONTROL_ADDRESSES_MAX, CONTROLLERS_MAX
from pyswarm_core.objects import Node
from pyswarm_core.state import State

NODES_AT_ONCE = 500
"""Nodes in one slice."""


class Listens(msgspec.Struct, frozen=True):
    """A controller's stored entry."""

    hosts: tuple[ControlHost, ...] = ()


def names_of(config: Config, members: Iterable[str]) -> list[str]:
    """The hosts of these addresses, which may be names. `members`: URLs of etcd's members."""
    texts = (config.advertise_addr, *config.etcd.endpoints, *members)
    parts = map(split_address, texts)
    return list(dict.fromkeys(found[0] for found in parts if found is not None and found[0]))


def own_hosts(
    config: Config,
    members: Iterable[str],
    own: Iterable[str],
    resolved: Mapping[str, tuple[str, ...]],
) -> tuple[ControlHost, ...]:
    """Where this controller and its etcd listen. `own`: all addresses of this host; `resolved`:
    the addresses of each host of `names_of`, none for loopback.
    """
    advertised = split_address(config.advertise_addr)
    first = resolved.get(advertised[0], ()) if advertised else ()
    here = tuple(dict.fromkeys((*first, *own)))[:CONTROL_ADDRESSES_MAX]
    found = [listening_on(address, here, api=True) for address in config.listen]
    others = (config.metrics_addr, config.health_addr, config.registry_addr)
    found += [listening_on(address, here) for address in others]
    if advertised:
        found.append(ControlHost(first, (ControlEndpoint(port=advertised[1], api=True),)))
    for text in (*config.etcd.endpoints, *members):
        if (parts := split_address(text)) is not None:
            endpoint = ControlEndpoint(port=parts[1], anywhere=True)
            found.append(ControlHost(resolved.get(parts[0], ()) or here, (endpoint,)))
    return checked_hosts(host for host in found if host is not None)


def hosts_of_agents(state: State) -> Slices[tuple[ControlHost, ...]]:
    """Where agents serve their metrics to others: one entry per port. An agent can close addresses
    of its own host only: that at which it joined, and the IPv6 addresses that it reported.
    """
    addresses: dict[int, dict[str, None]] = {}
    for nodes in batches(tuple(state.nodes.values()), NODES_AT_ONCE):
        for node in nodes:
            _add(addresses, node)
        yield
    return checked_hosts(
        ControlHost(tuple(sorted(held)), (ControlEndpoint(port=port),))
        for port, held in sorted(addresses.items())
    )


def encode_listens(hosts: tuple[ControlHost, ...]) -> bytes:
    """The value of a controller's entry."""
    return msgspec.json.encode(Listens(hosts))


def decode_listens(values: Iterable[bytes]) -> tuple[ControlHost, ...]:
    """What the entries of all controllers say; an unreadable one says nothing."""
    found: list[ControlHost] = []
    for value in list(values)[: 4 * CONTROLLERS_MAX]:
        try:
            found += msgspec.json.decode(value, type=Listens).hosts
        except msgspec.MsgspecError:
            continue
    return checked_hosts(found)


def _add(addresses: dict[int, dict[str, None]], node: Node) -> None:
    own = (node.status.addr, *node.status.addrs6)
    for text in node.description.metrics_addrs:
        if (parts := split_address(text)) is not None and parts[0] in own:
            addresses.setdefault(parts[1], {})[parts[0]] = None
