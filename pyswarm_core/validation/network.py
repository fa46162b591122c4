"""Which network specs are allowed. PURE. Overlap with what exists is the allocator's to find."""

import ipaddress
import re
from collections.abc import Iterable

import msgspec

from pyswarm_core.limits import NAME_LENGTH_MAX, SPEC_BYTES_MAX
from pyswarm_core.specs import Ipam, NetworkSpec
from pyswarm_core.units import human_size
from pyswarm_core.validation import text
from pyswarm_core.validation.problem import Problem

MTU_MIN = 576
"""What every IPv4 host must accept (RFC 791)."""
MTU_MAX = 65_485
SUBNET_PREFIX_MIN = 8
SUBNET_PREFIX_MAX = 29
"""A smaller one has no address left for a task."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def network_problems(spec: NetworkSpec) -> list[Problem]:
    """Everything that is wrong with the spec; empty if it may be stored."""
    size = len(msgspec.msgpack.encode(spec))
    if size > SPEC_BYTES_MAX:
        return [Problem("network", human_size(size), f"want at most {human_size(SPEC_BYTES_MAX)}")]
    problems = [
        *text.label_problems("label", spec.labels),
        *_ipam_problems(spec.ipam),
    ]
    if len(spec.name) > NAME_LENGTH_MAX or not _NAME.fullmatch(spec.name):
        want = f"want 1 to {NAME_LENGTH_MAX} of a-z A-Z 0-9 _ . -, beginning with a letter or digit"
        problems.append(Problem("name", spec.name, want))
    if spec.driver != "overlay":
        problems.append(Problem("driver", spec.driver, "want overlay"))
    if spec.mtu and not MTU_MIN <= spec.mtu <= MTU_MAX:
        problems.append(Problem("mtu", spec.mtu, f"want 0 or {MTU_MIN} to {MTU_MAX}"))
    return problems


def subnet_problems(field: str, text_: str) -> Iterable[Problem]:
    """An IPv4 subnet without host bits, of unicast addresses, with room for one block and more."""
    try:
        subnet = ipaddress.IPv4Network(text_[:64])
    except ValueError:
        yield Problem(
            field, text_, "want an IPv4 subnet such as 10.20.0.0/16, no bit set behind its prefix"
        )
        return
    if not SUBNET_PREFIX_MIN <= subnet.prefixlen <= SUBNET_PREFIX_MAX:
        want = f"want a prefix length of {SUBNET_PREFIX_MIN} to {SUBNET_PREFIX_MAX}"
        yield Problem(field, text_, want)
    elif _is_special(subnet):
        yield Problem(field, text_, "want addresses that hosts may have, such as 10.0.0.0/8's")


def _is_special(subnet: ipaddress.IPv4Network) -> bool:
    return (
        subnet.is_loopback
        or subnet.is_multicast
        or subnet.is_link_local
        or subnet.network_address.packed[0] in (0, 127)
        or subnet.network_address.packed[0] >= 224
    )


def _ipam_problems(ipam: Ipam) -> Iterable[Problem]:
    if ipam.driver not in ("", "default"):
        yield Problem("ipam-driver", ipam.driver, "want default")
    if len(ipam.config) > 1:
        yield Problem("subnet", f"{len(ipam.config)} of them", "want one subnet at most")
    for config in ipam.config:
        if config.subnet:
            yield from subnet_problems("subnet", config.subnet)
