"""Networks in flags: names, address pools, driver options -> parts of a spec. PURE."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from pyswarm_core.errors import invalid
from pyswarm_core.objects import Network
from pyswarm_core.specs import (
    BRIDGE_NETWORK,
    NO_NETWORK,
    PREDEFINED_NETWORKS,
    IpamConfig,
    ServiceSpec,
)
from pyswarm_core.validation.network import MTU_MAX, MTU_MIN

BLOCK_METADATA = "com.pyswarm.block-metadata"
_MTU = frozenset({"mtu", "com.docker.network.driver.mtu"})


def target(ref: str, find: Callable[[str], Network]) -> str:
    """The target of an attachment: the word of a predefined network, the id of any other. Raises
    what `find` raises.
    """
    return ref if ref in PREDEFINED_NETWORKS else find(ref).id


class Moves(NamedTuple):
    """The networks that a container joined and left, by id or predefined name."""

    joined: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


def moves(before: ServiceSpec, after: ServiceSpec) -> Moves:
    """How the networks of a container differ between two specs; none of a service, whose tasks are
    replaced.
    """
    if not after.mode.is_container:
        return Moves()
    old, new = (
        [one.target for one in spec.task_template.networks] or [BRIDGE_NETWORK]
        for spec in (before, after)
    )
    joined = tuple(target for target in new if target not in (*old, NO_NETWORK))
    return Moves(joined, tuple(target for target in old if target not in (*new, NO_NETWORK)))


class Options(NamedTuple):
    """The driver's options; `mtu` 0: not given."""

    mtu: int = 0
    encrypted: bool = False
    block_metadata: bool = False


def pools(
    subnets: Sequence[str], gateways: Iterable[str], ranges: Iterable[str]
) -> tuple[IpamConfig, ...]:
    """A pool per subnet; gateway and range go to the pool of their IP version. Raises
    InvalidArgument for a second one.
    """
    found = {subnet: {"subnet": subnet} for subnet in subnets}
    for field, flag, values in (("gateway", "gateway", gateways), ("ip_range", "ip-range", ranges)):
        for value in values:
            is_six = ":" in value
            subnet = next((subnet for subnet in subnets if (":" in subnet) == is_six), "")
            pool = found.setdefault(subnet, {"subnet": ""})
            if field in pool:
                raise invalid(f"--{flag}", value, f"subnet {subnet} has a {flag} already")
            pool[field] = value
    return tuple(IpamConfig(**pool) for pool in found.values())


def options(texts: Iterable[str]) -> Options:
    """`encrypted`, `encrypted=false`, `mtu=1400` (or Docker's long key),
    `com.pyswarm.block-metadata=true`. Raises InvalidArgument.
    """
    found = Options()
    for text in texts:
        key, _, value = text.partition("=")
        if key == "encrypted" and value in ("", "true", "false"):
            found = found._replace(encrypted=value != "false")
        elif key == BLOCK_METADATA and value in ("", "true", "false"):
            found = found._replace(block_metadata=value != "false")
        elif key not in _MTU:
            expected = f"expected encrypted, mtu=BYTES or {BLOCK_METADATA}=true (or =false)"
            raise invalid("--opt", text, expected)
        elif not value.isascii() or not value.isdecimal() or len(value) > 9:
            raise invalid("--opt", text, f"expected mtu=BYTES of {MTU_MIN} to {MTU_MAX}")
        else:
            found = found._replace(mtu=int(value))
    return found
