"""Validation of network specs. PURE. The allocator checks for overlaps with other subnets."""

import ipaddress
import re
from collections.abc import Iterable

import msgspec

from pyswarm_core.docker.units import human_size
from pyswarm_core.limits import NAME_LENGTH_MAX, SPEC_BYTES_MAX
from pyswarm_core.specs import PREDEFINED_NETWORKS, Ipam, IpamConfig, NetworkSpec
from pyswarm_core.validation import text
from pyswarm_core.validation.problem import Problem

MTU_MIN = 576
"""The least that every IPv4 host must accept (RFC 791)."""
MTU_MIN6 = 1280
"""The same for IPv6 (RFC 8200); the kernel gives a device with less no address."""
MTU_MAX = 65_485
SUBNET_PREFIX_MIN = 8
SUBNET_PREFIX_MAX = 29
"""A smaller subnet has no address left for a task."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_RESERVED = (*PREDEFINED_NETWORKS, "default")
"""Names of predefined networks; `default` is Docker's other word for bridge."""
_LAN = (
    "tasks have no addresses of the hosts' LAN; use overlay and --publish ports, or run on the"
    " network host"
)
_ONE = 'only one instance of "{}" network is allowed; services and containers join --network {}'
_REFUSED = {
    "bridge": "expected overlay, for which the word stands on the command line alone",
    "macvlan": _LAN,
    "ipvlan": _LAN,
    "host": _ONE.format("host", "host"),
    "none": _ONE.format("null", "none"),
    "null": _ONE.format("null", "none"),
}
"""Docker's other drivers, and why they are refused."""
UNICAST6 = (ipaddress.IPv6Network("2000::/3"), ipaddress.IPv6Network("fc00::/7"))
"""Global unicast (RFC 4291) and unique local (RFC 4193) addresses."""


def network_problems(spec: NetworkSpec) -> list[Problem]:
    """The problems of the spec; empty if it may be stored."""
    size = len(msgspec.msgpack.encode(spec))
    if size > SPEC_BYTES_MAX:
        expected = f"expected at most {human_size(SPEC_BYTES_MAX)}"
        return [Problem("network", human_size(size), expected, "size")]
    problems = [
        *text.label_problems("--label", spec.labels),
        *_ipam_problems(spec.ipam, spec.enable_ipv6),
        *_ingress_problems(spec),
    ]
    if len(spec.name) > NAME_LENGTH_MAX or not _NAME.fullmatch(spec.name):
        expected = f"expected 1 to {NAME_LENGTH_MAX} of a-z A-Z 0-9 _ . -, a letter or digit first"
        problems.append(Problem("name", spec.name, expected))
    elif spec.name in _RESERVED:
        reason = f"operation is not permitted on predefined {spec.name} network"
        problems.append(Problem("name", spec.name, reason))
    if spec.driver != "overlay":
        expected = "expected overlay, or bridge, which means overlay: there are no plugins"
        problems.append(Problem("--driver", spec.driver, _REFUSED.get(spec.driver, expected)))
    least, why = (MTU_MIN6, " with --ipv6") if spec.enable_ipv6 else (MTU_MIN, "")
    if spec.mtu and not least <= spec.mtu <= MTU_MAX:
        expected = f"expected 0 or {least} to {MTU_MAX}{why}"
        problems.append(Problem("--opt", spec.mtu, expected, "mtu"))
    return problems


def subnet_problems(field: str, text_: str) -> Iterable[Problem]:
    """An IPv4 subnet without host bits, of unicast addresses, with room for one block and more."""
    try:
        subnet = ipaddress.IPv4Network(text_[:64])
    except ValueError:
        expected = "expected an IPv4 subnet such as 10.20.0.0/16, no bit set behind its prefix"
        yield Problem(field, text_, expected)
        return
    if not SUBNET_PREFIX_MIN <= subnet.prefixlen <= SUBNET_PREFIX_MAX:
        expected = f"expected a prefix length of {SUBNET_PREFIX_MIN} to {SUBNET_PREFIX_MAX}"
        yield Problem(field, text_, expected)
    elif _is_special(subnet):
        yield Problem(field, text_, "expected unicast addresses such as those of 10.0.0.0/8")


def _is_special(subnet: ipaddress.IPv4Network) -> bool:
    return (
        subnet.is_loopback
        or subnet.is_multicast
        or subnet.is_link_local
        or subnet.network_address.packed[0] in (0, 127)
        or subnet.network_address.packed[0] >= 224
    )


def _ingress_problems(spec: NetworkSpec) -> Iterable[Problem]:
    """The ingress network routes connections from outside, and only services join it."""
    if spec.ingress and spec.internal:
        yield Problem("--internal", "true", "expected false with --ingress")
    if spec.ingress and spec.attachable:
        yield Problem("--attachable", "true", "expected false with --ingress")


def _ipam_problems(ipam: Ipam, enable_ipv6: bool) -> Iterable[Problem]:
    if ipam.driver not in ("", "default"):
        yield Problem("--ipam-driver", ipam.driver, "expected default")
    six = [config for config in ipam.config if ":" in config.subnet]
    four = [config for config in ipam.config if ":" not in config.subnet]
    if len(four) > 1 or len(six) > 1:
        count = f"{len(four)} of IPv4 and {len(six)} of IPv6"
        yield Problem("--subnet", count, "expected at most one of each", "count")
    for config in four:
        yield from _ipv4_problems(config)
    for config in six:
        if not enable_ipv6:
            yield Problem("--subnet", config.subnet, "expected --ipv6 as well")
        yield from _ipv6_problems(config)


def _ipv4_problems(config: IpamConfig) -> Iterable[Problem]:
    problems = list(subnet_problems("--subnet", config.subnet)) if config.subnet else []
    yield from problems
    for field, value in (("--gateway", config.gateway), ("--ip-range", config.ip_range)):
        if value and not config.subnet:
            yield Problem(field, value, "expected --subnet as well")
    if problems or not config.subnet:
        return
    subnet = ipaddress.IPv4Network(config.subnet)
    if config.gateway:
        yield from _gateway_problems(config.gateway, subnet)
    if config.ip_range:
        yield from _ip_range_problems(config.ip_range, subnet)


def _gateway_problems(gateway: str, subnet: ipaddress.IPv4Network) -> Iterable[Problem]:
    try:
        address = ipaddress.IPv4Address(gateway[:64])
    except ValueError:
        yield Problem("--gateway", gateway, "expected an IPv4 address")
        return
    if address not in subnet or address in (subnet.network_address, subnet.broadcast_address):
        expected = f"expected an address of {subnet}, not its first or last"
        yield Problem("--gateway", gateway, expected)


def _ip_range_problems(ip_range: str, subnet: ipaddress.IPv4Network) -> Iterable[Problem]:
    problems = list(subnet_problems("--ip-range", ip_range))
    yield from problems
    if not problems and not ipaddress.IPv4Network(ip_range).subnet_of(subnet):
        yield Problem("--ip-range", ip_range, f"expected a part of {subnet}")


def _ipv6_problems(config: IpamConfig) -> Iterable[Problem]:
    for field, value in (("--gateway", config.gateway), ("--ip-range", config.ip_range)):
        if value:
            yield Problem(field, value, "expected an IPv4 one: those of IPv6 follow from it")
    try:
        address, _, prefix = config.subnet[:64].partition("/")
        subnet = ipaddress.IPv6Network((address.replace("%", "/"), prefix))
    except ValueError:
        expected = "expected an IPv6 subnet such as fd00:1::/64, no bit set behind its prefix"
        yield Problem("--subnet", config.subnet, expected)
        return
    if not any(subnet.subnet_of(usable) for usable in UNICAST6):
        expected = "expected unicast addresses such as those of fd00::/8"
        yield Problem("--subnet", config.subnet, expected)
