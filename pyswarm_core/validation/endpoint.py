"""Which published ports, names and networks a service may have. PURE.

The allocator checks for conflicts with other services' ports.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence

from pyswarm_core.limits import NAME_LENGTH_MAX
from pyswarm_core.ports import overlaps, port_word, published_word
from pyswarm_core.specs import (
    BRIDGE_NETWORK,
    PREDEFINED_NETWORKS,
    DnsConfig,
    EndpointMode,
    EndpointSpec,
    NetworkAttachment,
    PortConfig,
    PublishMode,
)
from pyswarm_core.validation import text
from pyswarm_core.validation.problem import Problem, at_most, within

NETWORKS_MAX = 16
PORTS_MAX = 1_000
NAMESERVERS_MAX = 16
SEARCHED_MAX = 32
OPTIONS_MAX = 16
HOSTS_MAX = 256
DOMAIN_MAX = 253
HOST_GATEWAY = "host-gateway"
"""Stands for the address at which a task reaches its host."""
DEVICE_MAX = 15
"""Linux's IFNAMSIZ, less its end."""
_LOOPBACK6 = ipaddress.IPv6Address("::1")
_DEVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_DNS_OPTION = re.compile(r"[a-z][a-z0-9-]*(?::[0-9]{1,5})?")


def endpoint_problems(
    spec: EndpointSpec, networks: Sequence[NetworkAttachment]
) -> Iterable[Problem]:
    """The problems of a service's endpoint spec on those networks."""
    seen: dict[tuple[str, int], list[PortConfig]] = {}
    for port in spec.ports:
        yield from _port_problems(port)
        if spec.mode is EndpointMode.DNSRR and port.publish_mode is PublishMode.INGRESS:
            expected = f"expected vip, or mode=host for published port {_word(port)}"
            yield Problem("--endpoint-mode", "dnsrr", expected)
        same = seen.setdefault((port.protocol, port.published_port), [])
        if port.published_port and any(overlaps(port.host_ip, one.host_ip) for one in same):
            expected = "expected each published port once"
            yield Problem("--publish", published_word(port), expected, "port")
        same.append(port)
    for network in networks if spec.mode is EndpointMode.DNSRR else ():
        if network.ip:
            expected = "expected none with --endpoint-mode dnsrr, which has no virtual address"
            yield Problem("--network", network.ip, expected, "ip")
    is_alone = len(networks) == 1 and networks[0].target in PREDEFINED_NETWORKS
    for port in spec.ports if is_alone else ():
        yield from _unreachable_problems(port, networks[0].target)


def attachment_problems(
    networks: Sequence[NetworkAttachment], *, is_container: bool = False
) -> Iterable[Problem]:
    """The problems of a task template's networks. A container may be on the network bridge and on
    others.
    """
    yield from at_most("--network", networks, NETWORKS_MAX)
    seen: set[str] = set()
    for network in networks:
        if not text.is_word(network.target):
            yield Problem("--network", network.target, "expected a network's name or id")
        if network.target in seen:
            yield Problem("--network", network.target, "expected each network once")
        seen.add(network.target)
        if network.target in PREDEFINED_NETWORKS:
            is_shared = is_container and network.target == BRIDGE_NETWORK
            if len(networks) > 1 and not is_shared:
                expected = "expected no other network beside it"
                if network.target == BRIDGE_NETWORK:
                    expected += "; every other network that is not internal leads outside as well"
                yield Problem("--network", network.target, expected)
            yield from _nameless_problems(network)
        elif network.ip and (":" in network.ip or not is_address(network.ip)):
            expected = "expected an IPv4 address of the network"
            yield Problem("--network", network.ip, expected, "ip")
        if network.task_ip and (":" in network.task_ip or not is_address(network.task_ip)):
            yield Problem("--ip", network.task_ip, "expected an IPv4 address of the network")
        for alias in network.aliases:
            yield from _alias_problems(alias)


def _alias_problems(alias: str) -> Iterable[Problem]:
    """Names joined by dots, as of a DNS name."""
    if len(alias) > DOMAIN_MAX:
        expected = f"expected at most {DOMAIN_MAX} characters"
        yield Problem("--network", alias, expected, "alias")
    elif any(list(text.name_problems("", name)) for name in alias.split(".")):
        expected = (
            f"expected names of 1 to {NAME_LENGTH_MAX} of a-z A-Z 0-9 - _, a letter or digit at"
            " both ends, with dots between them"
        )
        yield Problem("--network", alias, expected, "alias")


def _nameless_problems(network: NetworkAttachment) -> Iterable[Problem]:
    """Predefined networks have no names and no virtual addresses."""
    if network.aliases:
        reason = f"network {network.target} has no names"
        yield Problem("--network", network.aliases[0], reason, "alias")
    if network.ip:
        reason = f"network {network.target} has no virtual addresses"
        yield Problem("--network", network.ip, reason, "ip")
    if network.task_ip:
        expected = f"expected a network that a user made: {network.target} gives no chosen address"
        yield Problem("--ip", network.task_ip, expected)


def dns_problems(config: DnsConfig) -> Iterable[Problem]:
    """The problems of a container's DNS configuration."""
    yield from at_most("--dns", config.nameservers, NAMESERVERS_MAX)
    yield from at_most("--dns-search", config.search, SEARCHED_MAX)
    yield from at_most("--dns-option", config.options, OPTIONS_MAX)
    for server in config.nameservers:
        if not is_address(server):
            yield Problem("--dns", server, "expected an IP address")
    for domain in config.search:
        if domain != "." and (len(domain) > DOMAIN_MAX or not _DOMAIN.fullmatch(domain)):
            yield Problem(
                "--dns-search", domain, "expected a domain such as example.org, or . for none"
            )
    for option in config.options:
        if not _DNS_OPTION.fullmatch(option):
            yield Problem(
                "--dns-option", option, "expected an option of resolv.conf such as ndots:2"
            )


def hosts_problems(lines: Sequence[str]) -> Iterable[Problem]:
    """The problems of additional lines of /etc/hosts."""
    yield from at_most("--host", lines, HOSTS_MAX)
    for line in lines:
        address, *names = line.split(" ")
        if address != HOST_GATEWAY and not is_address(address):
            yield Problem("--host", line, "expected NAME:IP with an IP address")
        elif not names or not all(
            len(name) <= DOMAIN_MAX and _DOMAIN.fullmatch(name) for name in names
        ):
            yield Problem("--host", line, "expected NAME:IP with a host's name")


def is_address(word: str) -> bool:
    """Whether it is an IPv4 or IPv6 address, without a zone."""
    try:
        ipaddress.ip_address(word[:64])
    except ValueError:
        return False
    return "%" not in word


def _port_problems(port: PortConfig) -> Iterable[Problem]:
    yield from within("--publish", port.target_port, 1, 65535, "target port")
    yield from within("--publish", port.published_port, 0, 65535, "published port")
    host_ip = port.host_ip
    if is_address(host_ip) and ipaddress.ip_address(host_ip) == _LOOPBACK6:
        expected = "expected 127.0.0.1: the kernel does not forward packets sent from ::1"
        yield Problem("--publish", host_ip, expected, "host_ip")
    if not host_ip or is_address(host_ip):
        return
    looks_like_address = ":" in host_ip or host_ip.replace(".", "").isdecimal()
    if looks_like_address or len(host_ip) > DEVICE_MAX or not _DEVICE.fullmatch(host_ip):
        expected = f"expected an IP address, or a device's name of at most {DEVICE_MAX} characters"
        yield Problem("--publish", host_ip, expected, "host_ip")


def _unreachable_problems(port: PortConfig, network: str) -> Iterable[Problem]:
    if network == "none":
        expected = "expected no published port with network none"
    elif port.publish_mode is PublishMode.INGRESS:
        expected = f"expected mode=host with network {network}, or an overlay network"
    elif network == "host" and port.published_port not in (0, port.target_port):
        expected = "expected the target's number with network host: tasks bind the host's own ports"
    else:
        return
    yield Problem("--publish", _word(port), expected, "port")


def _word(port: PortConfig) -> str:
    return port_word(port.published_port or port.target_port, port.protocol)
