"""Published ports: conflicts between them, and their display. PURE."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from pyswarm_core.specs import EndpointSpec, PortConfig, Protocol, PublishMode

CHOSEN_BY_AGENTS = range(32768, 61000)
"""The numbers of ports in mode host that specify none (the kernel's default ephemeral range)."""


class HostPort(NamedTuple):
    """A port of a host that a task in mode host occupies."""

    protocol: Protocol
    port: int
    host_ip: str = ""

    def __str__(self) -> str:
        return port_word(self.port, self.protocol, self.host_ip)


def host_ports(spec: EndpointSpec) -> tuple[HostPort, ...]:
    """The ports of its host that a task occupies, without those that its agent chooses, which
    conflict with none.
    """
    return tuple(
        HostPort(port.protocol, port.published_port, port.host_ip)
        for port in spec.ports
        if port.publish_mode is PublishMode.HOST and port.published_port
    )


def has_ingress_ports(spec: EndpointSpec) -> bool:
    """Whether the service publishes through the routing mesh."""
    return any(port.publish_mode is PublishMode.INGRESS for port in spec.ports)


def port_word(port: int, protocol: str, host_ip: str = "") -> str:
    """`8080/tcp`, `10.0.0.5:8080/tcp`, `[::1]:8080/tcp`."""
    if not host_ip:
        return f"{port}/{protocol}"
    return f"[{host_ip}]:{port}/{protocol}" if ":" in host_ip else f"{host_ip}:{port}/{protocol}"


def published_word(port: PortConfig) -> str:
    """The published side of a port, for display."""
    return port_word(port.published_port, port.protocol, port.host_ip)


@lru_cache(maxsize=4096)
def overlaps(one: str, other: str) -> bool:
    """Whether two host_ips have an address in common. A device may have any address: its addresses
    are not known here.
    """
    if one == other or not one or not other:
        return True
    first, second = _address(one), _address(other)
    if first is None or second is None:
        return first is not second  # two devices differ; a device and an address may be the same
    if first.version != second.version:
        return False
    return first == second or first.is_unspecified or second.is_unspecified


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
