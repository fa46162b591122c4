"""The kernel's state for the fleet's networks, as values shared by plan, messages and fake. PURE.

Devices are referred to by name: an index exists only once the device does, and changes when the
device is recreated.
"""

import msgspec


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A device.

    `master` is the bridge that it is attached to; `vni`, `local`, `port`, `learning` are those of
    VXLAN.
    """

    name: str
    kind: str = ""
    mac: str = ""
    mtu: int = 0
    up: bool = True
    master: str = ""
    vni: int = 0
    local: str = ""
    port: int = 0
    learning: bool = False


class DeviceAddress(msgspec.Struct, frozen=True):
    """An address and prefix length on a device."""

    device: str
    cidr: str


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A route; without a device, `dst` is unreachable. `table` 0 is the main table, `mtu` 0 the
    device's.
    """

    dst: str
    device: str = ""
    via: str = ""
    source: str = ""
    metric: int = 0
    onlink: bool = False
    table: int = 0
    mtu: int = 0


class Rule(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A routing rule. It matches packets whose mark under `mask` is `mark`, and that come from
    `iif` and have the source address if these are set. It looks up `table`, or jumps to the rule of
    priority `goto`; without either it is the target of a jump. `six`: for IPv6.
    """

    priority: int
    iif: str = ""
    source: str = ""
    mark: int = 0
    mask: int = 0
    table: int = 0
    goto: int = 0
    six: bool = False

    @property
    def device(self) -> str:
        """Empty: a rule outlives its device, and matches the next device of that name."""
        return ""


class Neighbour(msgspec.Struct, frozen=True):
    """A permanent neighbour entry."""

    device: str
    address: str
    mac: str


class Fdb(msgspec.Struct, frozen=True):
    """An FDB entry: the VTEP behind which a MAC is reached."""

    device: str
    mac: str
    vtep: str


class Setting(msgspec.Struct, frozen=True, order=True):
    """A value under /proc/sys/net; `device` is the device that it disappears with, if any."""

    path: str
    value: str
    device: str = ""


class KernelState(msgspec.Struct, frozen=True, kw_only=True):
    """The desired or the actual state.

    `links` holds bridges and VXLAN devices, `ports` maps tasks' devices to their bridges.
    """

    links: dict[str, Link] = {}
    ports: dict[str, str] = {}
    addresses: frozenset[DeviceAddress] = frozenset()
    routes: frozenset[Route] = frozenset()
    neighbours: frozenset[Neighbour] = frozenset()
    fdb: frozenset[Fdb] = frozenset()
    rules: frozenset[Rule] = frozenset()
    settings: frozenset[Setting] = frozenset()
