"""Where the parts of the control plane listen: what agents close to tasks. PURE."""

import re
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address

from pyswarm_core.model import Model

_ADDRESS = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:]*)):(\d{1,5})")
_ANYWHERE = ("", "0.0.0.0", "::")


class ControlEndpoint(Model, frozen=True):
    """A TCP port on which a part of the control plane listens."""

    port: int
    api: bool = False
    """The controllers' API, which `--allow-fleet-api` opens for a service."""
    anywhere: bool = False
    """It listens on every address of its host, also on those that the host gets later."""


class ControlHost(Model, frozen=True):
    """Addresses that have these ports of the control plane: those of a host, or of several."""

    addresses: tuple[str, ...] = ()
    endpoints: tuple[ControlEndpoint, ...] = ()


def split_address(text: str) -> tuple[str, int] | None:
    """Host and port of `HOST:PORT`, `[IPV6]:PORT` or a URL of these; None of anything else."""
    found = _ADDRESS.fullmatch(text.rpartition("://")[2].rstrip("/"))
    if found is None:
        return None
    six, four, port = found.groups()
    return six or four or "", int(port)


def listening_on(text: str, own: Iterable[str], *, api: bool = False) -> ControlHost | None:
    """What listens at `HOST:PORT` of this host, which has the addresses `own`; None if no other
    host and no task can reach it.
    """
    parts = split_address(text)
    if parts is None or not 0 < parts[1] < 65536:
        return None
    host, port = parts
    if host in _ANYWHERE:
        endpoint = ControlEndpoint(port=port, api=api, anywhere=True)
        return ControlHost(addresses=tuple(own), endpoints=(endpoint,))
    if not (address := usable_address(host)):
        return None
    return ControlHost(addresses=(address,), endpoints=(ControlEndpoint(port=port, api=api),))


def usable_address(text: str) -> str:
    """The address in its canonical form; "" if it is none, or no other host or task can use it."""
    try:
        address = ip_address(text)
    except ValueError:
        return ""
    if isinstance(address, IPv6Address):
        if address.scope_id or address.is_link_local:
            return ""
        address = address.ipv4_mapped or address
    unusable = address.is_loopback or address.is_unspecified or address.is_multicast
    return "" if unusable else str(address)


def checked_hosts(hosts: Iterable[ControlHost]) -> tuple[ControlHost, ...]:
    """The hosts without invalid addresses and ports, each address spelled in one way."""
    kept: dict[ControlHost, None] = {}
    for host in hosts:
        addresses = dict.fromkeys(filter(None, map(usable_address, host.addresses)))
        endpoints = tuple(each for each in host.endpoints if 0 < each.port < 65536)
        if addresses and endpoints:
            kept[ControlHost(addresses=tuple(addresses), endpoints=endpoints)] = None
    return tuple(kept)
