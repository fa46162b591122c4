"""What a host's kernel holds for our networks, as values: the common tongue of plan, messages and
fake. PURE.

Devices are named, not numbered: an index is only known once a device exists, and changes when it is
made anew.
"""

import msgspec


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A device.

    `master` is the bridge it hangs on; `vni`, `local`, `port`, `learning` are VXLAN's.
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
    """A route; without a device it says that `dst` is unreachable. `table` 0 is the main one, `mtu`
    0 the device's.
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
    """A routing rule: packets whose mark is `mark` under `mask`, and that come from `iif` and have
    the source if these are named, look into `table` or go on at the rule of priority `goto`.
    Without both it is a landing. `six`: of IPv6.
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
        """It outlives its device, and takes effect again with the next of that name."""
        return ""


class Neighbour(msgspec.Struct, frozen=True):
    """A permanent neighbour."""

    device: str
    address: str
    mac: str


class Fdb(msgspec.Struct, frozen=True):
    """Behind which VTEP a MAC lives."""

    device: str
    mac: str
    vtep: str


class Setting(msgspec.Struct, frozen=True, order=True):
    """A value under /proc/sys/net; `device` is the one it dies with, if any."""

    path: str
    value: str
    device: str = ""


class KernelState(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, wanted or found.

    `links` holds bridges and VXLAN devices, `ports` tasks' devices and their bridges.
    """

    links: dict[str, Link] = {}
    ports: dict[str, str] = {}
    addresses: frozenset[DeviceAddress] = frozenset()
    routes: frozenset[Route] = frozenset()
    neighbours: frozenset[Neighbour] = frozenset()
    fdb: frozenset[Fdb] = frozenset()
    rules: frozenset[Rule] = frozenset()
    settings: frozenset[Setting] = frozenset()
