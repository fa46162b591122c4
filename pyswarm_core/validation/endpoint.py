"""Which published ports, names and networks a service may ask for. PURE.

Whether another service has a port already is not known here: that is the allocator's to say.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence

from pyswarm_core.ports import overlaps, port_word, published_word
from pyswarm_core.specs import (
    PREDEFINED_NETWORKS,
    DnsConfig,
    EndpointMode,
    EndpointSpec,
    NetworkAttachment,
    PortConfig,
    PublishMode,
)
from pyswarm_core.validation import text
from pyswarm_core.validation.problem import Problem, within

NETWORKS_MAX = 16
PORTS_MAX = 1_000
NAMESERVERS_MAX = 16
SEARCHED_MAX = 32
OPTIONS_MAX = 16
HOSTS_MAX = 256
DOMAIN_MAX = 253
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
    """What is wrong with how a service wants to be reached on those networks."""
    if len(spec.ports) > PORTS_MAX:
        yield Problem("publish", f"{len(spec.ports)} of them", f"want at most {PORTS_MAX}")
        return
    seen: dict[tuple[str, int], list[PortConfig]] = {}
    for port in spec.ports:
        yield from _port_problems(port)
        if spec.mode is EndpointMode.DNSRR and port.publish_mode is PublishMode.INGRESS:
            want = "want mode=host for it, or endpoint-mode vip"
            yield Problem("endpoint-mode", f"dnsrr with port {_word(port)} in mode ingress", want)
        same = seen.setdefault((port.protocol, port.published_port), [])
        if port.published_port and any(overlaps(port.host_ip, one.host_ip) for one in same):
            yield Problem("publish", published_word(port), "want each published port once")
        same.append(port)
    for network in networks if spec.mode is EndpointMode.DNSRR else ():
        if network.ip:
            want = "want none with endpoint-mode dnsrr, where tasks' addresses are the service's"
            yield Problem("network ip", network.ip, want)
    predefined = [one.target for one in networks if one.target in PREDEFINED_NETWORKS]
    for port in spec.ports if predefined else ():
        yield from _unreachable_problems(port, predefined[0])


def attachment_problems(networks: Sequence[NetworkAttachment]) -> Iterable[Problem]:
    """What is wrong with the networks that tasks are to join."""
    if len(networks) > NETWORKS_MAX:
        yield Problem("network", f"{len(networks)} of them", f"want at most {NETWORKS_MAX}")
    seen: set[str] = set()
    for network in networks:
        if not text.is_word(network.target):
            yield Problem("network", network.target, "want a network's name or id")
        if network.target in seen:
            yield Problem("network", network.target, "want each network once")
        seen.add(network.target)
        if network.target in PREDEFINED_NETWORKS:
            if len(networks) > 1:
                yield Problem("network", network.target, "want no other network beside it")
            yield from _nameless_problems(network)
        elif network.ip and (":" in network.ip or not is_address(network.ip)):
            yield Problem("network ip", network.ip, "want an IPv4 address of the network")
        for alias in network.aliases:
            yield from text.name_problems("network alias", alias)


def _nameless_problems(network: NetworkAttachment) -> Iterable[Problem]:
    """What a network that every host has by itself cannot give."""
    if network.aliases:
        yield Problem("network alias", network.aliases[0], f"{network.target} has no names")
    if network.ip:
        yield Problem("network ip", network.ip, f"{network.target} has no virtual addresses")


def dns_problems(config: DnsConfig) -> Iterable[Problem]:
    """What is wrong with what a container's resolver is told."""
    yield from _count_problems("dns", config.nameservers, NAMESERVERS_MAX)
    yield from _count_problems("dns-search", config.search, SEARCHED_MAX)
    yield from _count_problems("dns-option", config.options, OPTIONS_MAX)
    for server in config.nameservers:
        if not is_address(server):
            yield Problem("dns", server, "want an IP address")
    for domain in config.search:
        if domain != "." and (len(domain) > DOMAIN_MAX or not _DOMAIN.fullmatch(domain)):
            yield Problem("dns-search", domain, "want a domain such as example.org, or . for none")
    for option in config.options:
        if not _DNS_OPTION.fullmatch(option):
            yield Problem("dns-option", option, "want an option of resolv.conf such as ndots:2")


def hosts_problems(lines: Sequence[str]) -> Iterable[Problem]:
    """What is wrong with further lines of /etc/hosts."""
    yield from _count_problems("host", lines, HOSTS_MAX)
    for line in lines:
        address, *names = line.split(" ")
        if not is_address(address):
            yield Problem("host", line, "want NAME:IP with an IP address")
        elif not names or not all(
            len(name) <= DOMAIN_MAX and _DOMAIN.fullmatch(name) for name in names
        ):
            yield Problem("host", line, "want NAME:IP with a host's name")


def is_address(word: str) -> bool:
    """Whether it is an IPv4 or IPv6 address, without a zone."""
    try:
        ipaddress.ip_address(word[:64])
    except ValueError:
        return False
    return "%" not in word


def _count_problems(field: str, values: Sequence[str], most: int) -> Iterable[Problem]:
    if len(values) > most:
        yield Problem(field, f"{len(values)} of them", f"want at most {most}")


def _port_problems(port: PortConfig) -> Iterable[Problem]:
    yield from within("publish target port", port.target_port, 1, 65535)
    yield from within("publish published port", port.published_port, 0, 65535)
    host_ip = port.host_ip
    if is_address(host_ip) and ipaddress.ip_address(host_ip) == _LOOPBACK6:
        want = "want 127.0.0.1, [::1] leads nowhere: no kernel routes what it sends"
        yield Problem("publish host_ip", host_ip, want)
    if not host_ip or is_address(host_ip):
        return
    looks_like_address = ":" in host_ip or host_ip.replace(".", "").isdecimal()
    if looks_like_address or len(host_ip) > DEVICE_MAX or not _DEVICE.fullmatch(host_ip):
        want = f"want an IP address, or a device's name of at most {DEVICE_MAX} characters"
        yield Problem("publish host_ip", host_ip, want)


def _unreachable_problems(port: PortConfig, network: str) -> Iterable[Problem]:
    word = f"port {_word(port)} on network {network}"
    if network == "none":
        yield Problem("publish", word, "want no port, nothing reaches such tasks")
    elif port.publish_mode is PublishMode.INGRESS:
        yield Problem("publish", word, "want mode=host, or a network of the fleet")
    elif network == "host" and port.published_port not in (0, port.target_port):
        want = "want the target's number, tasks there take the host's ports themselves"
        yield Problem("publish", word, want)


def _word(port: PortConfig) -> str:
    return port_word(port.published_port or port.target_port, port.protocol)
