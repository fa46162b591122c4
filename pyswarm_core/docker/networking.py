"""Networks as Docker users name them: predefined ones, drivers, address pools, options. PURE."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from pyswarm_core.clock import Instant
from pyswarm_core.errors import invalid
from pyswarm_core.ids import NetworkId
from pyswarm_core.objects import Network
from pyswarm_core.specs import (
    BRIDGE_NETWORK,
    NO_NETWORK,
    PREDEFINED_NETWORKS,
    IpamConfig,
    NetworkSpec,
    ServiceSpec,
)
from pyswarm_core.validation.network import MTU_MAX, MTU_MIN

BLOCK_METADATA = "com.pyswarm.block-metadata"
MTU = "com.docker.network.driver.mtu"
_MTU = frozenset({"mtu", MTU})
_DRIVERS = {"bridge": "bridge", "host": "host", "none": "null"}
"""The drivers of predefined networks, in Docker's words."""
_PUBLISHED = "use `--publish ADDRESS:PORT:PORT` of a service or container"
_BRIDGE = "com.docker.network.bridge"
_DOCKER: Mapping[str, tuple[Sequence[str], str]] = {
    f"{_BRIDGE}.default_bridge": (("false",), "every host has the network bridge already"),
    f"{_BRIDGE}.enable_icc": (
        ("true",),
        "tasks of one network reach each other; give tasks that must not networks of their own",
    ),
    f"{_BRIDGE}.enable_ip_masquerade": (
        ("true",),
        "tasks reach the outside with their host's address; --internal closes the way out",
    ),
    f"{_BRIDGE}.gateway_mode_ipv4": (("nat",), _PUBLISHED),
    f"{_BRIDGE}.gateway_mode_ipv6": (("nat",), _PUBLISHED),
    f"{_BRIDGE}.host_binding_ipv4": (("0.0.0.0",), _PUBLISHED),
    f"{_BRIDGE}.inhibit_ipv4": (("false",), "--internal closes the way out"),
    f"{_BRIDGE}.name": (
        (),
        "each agent names its devices; `ip link show` has a network's name as the alias",
    ),
    f"{_BRIDGE}.trusted_host_interfaces": ((), _PUBLISHED),
    "com.docker.network.container_iface_prefix": (("eth",), "interfaces are eth0, eth1 and so on"),
    "com.docker.network.container_interface_prefix": (
        ("eth",),
        "interfaces are eth0, eth1 and so on",
    ),
    "com.docker.network.driver.overlay.vxlanid_list": (
        (),
        "the controller assigns each network a VNI, which `network inspect` shows",
    ),
    "com.docker.network.enable_ipv4": (("true",), "IPv6 addresses follow from IPv4 addresses"),
    "com.docker.network.enable_ipv6": ((), "use --ipv6"),
    "com.docker.network.host_ipv4": ((), "tasks reach the outside with their host's address"),
    "com.docker.network.host_ipv6": ((), "tasks reach the outside with their host's address"),
    "com.docker.network.internal": ((), "use --internal"),
}
"""Docker's options of networks: the values that change nothing here, and the alternative to the
others.
"""


def scope_of(network: Network) -> str:
    """Docker's scope: `local` of a predefined network, `swarm` of any other."""
    return "local" if network.id in PREDEFINED_NETWORKS else "swarm"


def predefined(created_at: Instant) -> tuple[Network, ...]:
    """The predefined networks as objects, which have their words as ids. No store holds them."""
    return tuple(
        Network(
            id=NetworkId(word),
            spec=NetworkSpec(name=word, driver=driver),
            subnet="",
            vni=0,
            created_at=created_at,
            updated_at=created_at,
        )
        for word, driver in _DRIVERS.items()
    )


class Driver(NamedTuple):
    """The driver of a new network, and what its user is told about it; empty: nothing."""

    name: str
    notice: str = ""


def driver(word: str) -> Driver:
    """The driver that Docker's word means here. Validation refuses those that do not exist."""
    if word != "bridge":
        return Driver(word)
    return Driver("overlay", "driver bridge means overlay: the network reaches every host")


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
        elif key in _DOCKER:
            _require_default(text, key, value)
        elif key not in _MTU:
            expected = f"expected encrypted, mtu=BYTES or {BLOCK_METADATA}=true (or =false)"
            raise invalid("--opt", text, expected)
        elif not value.isascii() or not value.isdecimal() or len(value) > 9:
            raise invalid("--opt", text, f"expected mtu=BYTES of {MTU_MIN} to {MTU_MAX}")
        else:
            found = found._replace(mtu=int(value))
    return found


def _require_default(text: str, key: str, value: str) -> None:
    accepted, alternative = _DOCKER[key]
    if value not in accepted:
        expected = f"expected {' or '.join(accepted)}; " if accepted else ""
        raise invalid("--opt", text, f"{expected}{alternative}")
