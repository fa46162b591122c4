"""Reads a host's networks from the kernel, and applies a plan's changes. SHELL.

Runs in a worker thread. Invariant: a change that fails does not prevent the others.
"""

import socket
import struct
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from typing import NamedTuple

from agent.network import message
from agent.network.base import DesiredOverlay, NetworkFailed
from agent.network.message import AF_INET, AF_INET6
from agent.network.names import Names
from agent.network.netlink import Netlink
from agent.network.overlay import shaping
from agent.network.overlay.plan import FORWARDING6, KernelChanges, Refusal
from agent.network.overlay.plug import Plug, inside_messages, stale_neighbours
from agent.network.state import DeviceAddress, Fdb, KernelState, Link, Neighbour, Route, Setting
from pyswarm_core.limits import ADDRESSES6_MAX
from pyswarm_core.plaintext import split_lines
from pyswarm_core.states import KERNEL_WITH, Capability

_SETTINGS = Path("/proc/sys/net")
_ROUTES = Path("/proc/thread-self/net/route")
_REJECTS = "*"
"""The kernel's device name for a route that rejects packets."""


class Devices:
    """A snapshot of all devices of the namespace and their addresses."""

    def __init__(self, host: Netlink) -> None:
        read = [message.read_link(body) for body in host.dump(message.dump_links())]
        self.links = {index: link for index, _, link in read}
        self.masters = {index: master for index, master, _ in read}
        self.index = {link.name: index for index, link in self.links.items()}
        answer = host.dump(message.dump_addresses())
        self.addresses = [message.read_address(body) for body in answer]

    def mtu_of(self, address: str) -> int:
        """The MTU of the device that has the address. Raises NetworkFailed if none has."""
        for index, cidr in self.addresses:
            if cidr.partition("/")[0] == address and index in self.links:
                return self.links[index].mtu
        raise NetworkFailed(f"no device of this node has the data path address {address}")


def own_addresses6(host: Netlink, names: Names) -> tuple[str, ...]:
    """The host's own IPv6 addresses: global ones, and none of the fleet's networks."""
    names_of = dict(socket.if_nameindex())
    bodies = host.dump(message.dump_addresses(AF_INET6)) if not lacks_ipv6() else []
    found = [message.read_address(body) for body in bodies if message.is_global(body)]
    own = [
        cidr.partition("/")[0]
        for index, cidr in found
        if not names.carries(names_of.get(index, ""))
    ]
    return tuple(own[:ADDRESSES6_MAX])


def read_state(
    host: Netlink,
    devices: Devices,
    names: Names,
    settings: Iterable[Setting],
    ports: Collection[str],
    *,
    six: bool,
) -> KernelState:
    """The kernel's state of the fleet's devices (of IPv6 too if `six`), the settings that have the
    desired values, and the neighbours behind these ports.
    """
    ours = {index: link.name for index, link in devices.links.items() if names.carries(link.name)}
    families = (AF_INET, AF_INET6) if six else (AF_INET,)
    addresses = list(devices.addresses)
    if six:
        addresses += map(message.read_address, host.dump(message.dump_addresses(AF_INET6)))
    routes = [message.read_route(b) for f in families for b in host.dump(message.dump_routes(f))]
    rules = [message.read_rule(b) for f in families for b in host.dump(message.dump_rules(f))]
    return KernelState(
        links={name: devices.links[index] for index, name in ours.items()},
        ports={
            link.name: ours.get(devices.masters[index], "")
            for index, link in devices.links.items()
            if link.kind == "veth" and link.name.startswith(names.prefix)
        },
        addresses=frozenset(
            DeviceAddress(ours[index], cidr) for index, cidr in addresses if index in ours
        ),
        routes=frozenset(
            _named(route, ours.get(index, ""))
            for index, route in filter(None, routes)
            if index in ours or (not index and route.metric == names.last_resort_metric)
        ),
        neighbours=_known(host, families, ours | _numbered(devices, ports)),
        fdb=frozenset(
            Fdb(ours[index], mac, vtep)
            for index, vtep, mac in neighbours(host, message.AF_BRIDGE)
            if index in ours
        ),
        rules=frozenset(
            rule
            for rule in filter(None, rules)
            if 0 <= rule.priority - names.rule_priority <= 2
            and (not rule.iif or names.carries(rule.iif))
        ),
        settings=frozenset(setting for setting in settings if _holds(setting)),
    )


def _numbered(devices: Devices, names: Iterable[str]) -> dict[int, str]:
    return {devices.index[name]: name for name in names if name in devices.index}


def _known(
    host: Netlink, families: Iterable[int], devices: Mapping[int, str]
) -> frozenset[Neighbour]:
    return frozenset(
        Neighbour(devices[index], address, mac)
        for family in families
        for index, address, mac in neighbours(host, family)
        if index in devices
    )


def overlapping_route(names: Names, overlay: DesiredOverlay) -> str:
    """The foreign route that overlaps a network's subnet, for operators; empty if there is none, or
    if the network's device exists already. A default route does not count.
    """
    subnet, device = IPv4Network(overlay.subnet), names.vxlan(overlay.network_id)
    with suppress(OSError):
        if socket.if_nametoindex(device):
            return ""
    for line in split_lines(_ROUTES.read_text())[1:]:
        device, destination, _, _, _, _, _, mask, *_ = line.split()
        base = int.from_bytes(bytes.fromhex(destination), "little")
        route = IPv4Network((base, int(mask, 16).bit_count()))
        of_others = device != _REJECTS and not names.carries(device)
        if of_others and route.prefixlen and route.overlaps(subnet):
            return f"{route} dev {device}"
    return ""


class _Step(NamedTuple):
    device: str
    entry: object
    message: Callable[[], bytes]


def apply_changes(
    host: Netlink, changes: KernelChanges, desired: KernelState, aliases: Mapping[str, str]
) -> list[Refusal]:
    """Apply the changes, devices first, and return those that failed. `aliases` are the texts that
    `ip link` shows on devices.
    """
    devices = Devices(host)
    refused: list[Refusal] = []
    index = devices.index
    drops = [_Step(n, n, partial(message.drop_link, index[n])) for n in changes.drop_links]
    refused += _attempt(host, drops, ignore_missing=True)
    for link in changes.make_links:
        refused += _make(host, link, aliases.get(link.name, ""))
    if changes.drop_links or changes.make_links:
        index = Devices(host).index
    sets = [
        _Step(link.name, link, partial(message.set_link, index[link.name], link))
        for link in changes.set_links if link.name in index
    ]  # fmt: skip
    refused += _attempt(host, sets)
    for setting in changes.settings:
        refused += _write(setting)
    refused += _attempt(host, _joins(changes, desired, index), ignore_missing=True)
    refused += _attempt(host, _additions(changes, index))
    refused += _attempt(host, _removals(changes, index), ignore_missing=True)
    return refused


def _joins(changes: KernelChanges, desired: KernelState, index: Mapping[str, int]) -> list[_Step]:
    joined = {
        port: desired.ports[port] for port in changes.set_ports if desired.ports[port] in index
    }
    pairs = list(joined.items())
    steps = [_Step(b, port, partial(message.plug_in, port, index[b])) for port, b in pairs]
    steps += [_Step(b, port, partial(message.reflect, port)) for port, b in pairs]
    # Reading a link makes the kernel activate it at once.
    steps += [
        _Step(b, port, partial(message.get_link, name)) for port, b in pairs for name in (port, b)
    ]
    return steps


def _additions(changes: KernelChanges, index: Mapping[str, int]) -> list[_Step]:
    there = (*index, "")
    return [
        *_steps(message.address, changes.add_addresses, index, index),
        *_steps(message.neighbour, changes.add_neighbours, index, index),
        *_steps(message.fdb, changes.add_fdb, index, index),
        *_steps(message.route, changes.add_routes, index, frozenset(there)),
        *(_Step(e.iif, e, partial(message.rule, e)) for e in changes.add_rules),
    ]


def _removals(changes: KernelChanges, index: Mapping[str, int]) -> list[_Step]:
    return [
        *(_Step(e.iif, e, partial(message.rule, e, add=False)) for e in changes.drop_rules),
        *_steps(message.route, changes.drop_routes, index, frozenset((*index, "")), add=False),
        *_steps(message.neighbour, changes.drop_neighbours, index, index, add=False),
        *_steps(message.fdb, changes.drop_fdb, index, index, add=False),
        *_steps(message.address, changes.drop_addresses, index, index, add=False),
    ]


def _steps(
    make: Callable[..., bytes],
    entries: Iterable[DeviceAddress | Route | Neighbour | Fdb],
    index: Mapping[str, int],
    there: Container[str],
    *,
    add: bool = True,
) -> Iterator[_Step]:
    """One step for each entry whose device exists."""
    for entry in entries:
        if entry.device in there:
            number = index.get(entry.device, 0)
            yield _Step(entry.device, entry, partial(make, number, entry, add=add))


def _attempt(
    host: Netlink, steps: Iterable[_Step], *, ignore_missing: bool = False
) -> list[Refusal]:
    """Try every step and return those that failed. An entry that cannot be encoded as a message
    fails before it reaches the kernel.
    """
    refused: list[Refusal] = []
    sent: list[tuple[_Step, bytes]] = []
    for step in steps:
        try:
            sent.append((step, step.message()))
        except (ValueError, struct.error) as error:
            refused.append(Refusal(step.device, step.entry, str(error)))
    answer = host.attempt([data for _, data in sent], ignore_missing=ignore_missing)
    for place, reason in answer.items():
        step, _ = sent[place]
        refused.append(Refusal(step.device, step.entry, str(reason)))
    return refused


def _make(host: Netlink, link: Link, alias: str) -> list[Refusal]:
    try:
        host.apply([message.make_link(link), message.set_alias(link.name, alias)])
    except (NetworkFailed, ValueError, struct.error) as failure:
        what = f"VXLAN device for VNI {link.vni} on port {link.port}" if link.vni else "bridge"
        return [Refusal(link.name, f"cannot create the {what}", str(failure))]
    return []


def plug(
    host: Netlink, wiring: Sequence[Plug], inside: Netlink, host_fd: int, *, dual: bool
) -> None:
    """Create these interfaces of a task, in whose namespace the socket `inside` is; see
    `inside_messages`. Raises NetworkFailed.
    """
    # Looked up first: a missing bridge is the likelier failure, and nothing has to be undone then.
    bridges = [(plug.port.name, _bridge_index(plug.bridge)) for plug in wiring]
    inside.apply(inside_messages(wiring, host_fd, dual=dual))
    joins = [message.plug_in(port, bridge) for port, bridge in bridges]
    joins += [message.reflect(port) for port, _ in bridges]
    joins += _task_neighbours(wiring)
    forget_neighbours(host, wiring)
    # All interfaces are up: reading them makes the kernel activate them before a packet is sent.
    ports = [name for plug in wiring for name in (plug.port.name, plug.bridge)]
    host.apply([*joins, *map(message.get_link, ports)])
    inside.apply([message.get_link(plug.inside.name) for plug in wiring])
    shaping.limit_new(host, wiring, inside)


def add_task_neighbours(host: Netlink, wiring: Sequence[Plug]) -> None:
    """Add the host's neighbour entries for the tasks behind these ports. Raises NetworkFailed."""
    host.apply(_task_neighbours(wiring), ignore_missing=True)


def forget_neighbours(host: Netlink, wiring: Sequence[Plug]) -> None:
    """Remove what the host's bridges know of addresses of tasks with MACs of their own."""
    entries = stale_neighbours(wiring)
    index = {name: number for number, name in socket.if_nameindex()} if entries else {}
    stale = [
        message.neighbour(index[bridge], entry, add=False)
        for bridge, entry in entries
        if bridge in index
    ]
    host.attempt(stale)


def _task_neighbours(wiring: Sequence[Plug]) -> list[bytes]:
    return [
        message.neighbour(socket.if_nametoindex(task.device), task)
        for plug in wiring for task in plug.neighbours
    ]  # fmt: skip


def is_plugged(host: Netlink, plug: Plug) -> bool:
    """Whether the interface exists. If it does, it is attached to its bridge and set up."""
    body = host.one(message.get_link(plug.port.name))
    if body is None:
        return False
    _, master, link = message.read_link(body)
    bridge = _bridge_index(plug.bridge)
    if master != bridge or not link.up:
        port = plug.port.name
        host.apply([message.plug_in(port, bridge), message.reflect(port)])
    return True


def _bridge_index(bridge: str) -> int:
    try:
        return socket.if_nametoindex(bridge)
    except OSError as error:
        raise NetworkFailed(f"bridge {bridge} does not exist: {error.strerror}") from error


def _named(route: Route, device: str) -> Route:
    return Route(
        dst=route.dst, device=device, via=route.via, source=route.source,
        metric=route.metric, onlink=route.onlink, table=route.table, mtu=route.mtu,
    )  # fmt: skip


def neighbours(host: Netlink, family: int) -> Iterable[tuple[int, str, str]]:
    """The permanent neighbours (AF_INET) or FDB entries (AF_BRIDGE): index, address, MAC."""
    answer = host.dump(message.dump_neighbours(family))
    return filter(None, map(message.read_neighbour, answer))


def lacks_ipv6() -> str:
    """Why the kernel cannot carry IPv6, as one line for operators; "" if it can."""
    if (_SETTINGS / "ipv6").exists():
        return ""
    return f"this host's kernel has no {KERNEL_WITH[Capability.IPV6]}"


def _holds(setting: Setting) -> bool:
    path = _SETTINGS / setting.path
    try:
        return path.read_text().strip() == setting.value
    except FileNotFoundError:
        # Without IPv6 in the kernel there is nothing to disable; the setting of a missing device is
        # unset.
        return setting.path.startswith("ipv6/") and bool(lacks_ipv6())


def _write(setting: Setting) -> list[Refusal]:
    try:
        if setting == FORWARDING6:
            _keep_advertised_routes()
        (_SETTINGS / setting.path).write_text(setting.value)
    except OSError as error:
        return [Refusal(setting.device, f"cannot set {setting.path}", str(error.strerror))]
    return []


def _keep_advertised_routes() -> None:
    """Forwarding makes the kernel ignore router advertisements, and drop the default route learned
    from one, unless accept_ra is 2.
    """
    for accepts in _SETTINGS.glob("ipv6/conf/*/accept_ra"):
        if accepts.parent.name not in ("all", "default") and accepts.read_text().strip() == "1":
            accepts.write_text("2")
