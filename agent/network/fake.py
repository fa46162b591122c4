"""A Dataplane in memory, for unit tests and the simulator. Its tables come from the real plan.

A `Fabric` joins the hosts: it answers whether one task reaches another by walking the same routes,
neighbours, FDB entries and tunnels that a packet would meet. `FakeDataplane.kernel` may be
disturbed at will; `sync` heals it.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network

from msgspec.structs import replace

from agent.network import plan, refusal
from agent.network.base import (
    Attachment,
    Drift,
    EndpointKey,
    EndpointWanted,
    Fault,
    NetworkFailed,
    OverlayWanted,
    Published,
    Underlay,
)
from agent.network.encryption import ipsec
from agent.network.encryption.ipsec import Sealing
from agent.network.names import Names
from agent.network.plan import Refusal
from agent.network.plug import Plug, plugs
from agent.network.state import Fdb, KernelState, Route
from agent.network.vips import ruleset
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.objects import Capability


class FakeDataplane:
    """One host's tables.

    `kernel` and `tasks` outlive a restarted agent: hand them to its successor.
    """

    def __init__(self, fabric: "Fabric", underlay: Underlay, fleet: str = "fake") -> None:
        self.underlay = underlay
        self.kernel = KernelState()
        self.tasks: dict[TaskId, tuple[Plug, ...]] = {}
        self.sealing = Sealing()
        self.underlay_mtu = 1500
        self.lacks: dict[Capability, str] = {}
        """What the kernel has not, and why."""
        self.refuses: Callable[[Route | Fdb], str] = _refuses
        """Why the kernel refuses an entry; "" if it does not."""
        self._names = Names(fleet)
        self.endpoints: dict[EndpointKey, EndpointWanted] = {}
        """What the last sync was given: where connections of this host's tasks may go."""
        self.published: dict[TaskId, Published] = {}
        """Which of this host's own ports lead to which task, as of the last sync."""
        self._overlays: dict[NetworkId, OverlayWanted] = {}
        self._refused: dict[NetworkId, str] = {}
        self._faults: tuple[Fault, ...] = ()
        fabric.hosts[underlay.address] = self

    async def sync(
        self,
        overlays: Sequence[OverlayWanted],
        endpoints: Sequence[EndpointWanted] = (),
        published: Sequence[Published] = (),
    ) -> tuple[Fault, ...]:
        """Make the tables exactly what these networks need, but for what is refused."""
        self.published = {task.task_id: task for task in published}
        self._refused = refusal.refusals(overlays, self.lacks, self.underlay_mtu)
        self._overlays = {
            overlay.network_id: overlay
            for overlay in overlays
            if overlay.network_id not in self._refused
        }
        self.endpoints = {endpoint.key: endpoint for endpoint in endpoints}
        self.kernel, refused = self._accepted(self._wanted())
        self.sealing = self._sealing()
        found = refusal.of_kernel(overlays, self._names, refused)
        self._faults = refusal.gathered(overlays, self._refused, found, {}, ())
        return self._faults

    async def update(
        self, changed: Mapping[EndpointKey, EndpointWanted | None]
    ) -> tuple[Fault, ...]:
        """Remember these endpoints, too."""
        for key, endpoint in changed.items():
            if endpoint is None:
                self.endpoints.pop(key, None)
            else:
                self.endpoints[key] = endpoint
        return self._faults

    async def attach(self, task_id: TaskId, attachments: Sequence[Attachment]) -> str:
        """Remember the task's plugs; the path is made up."""
        for attachment in attachments:
            if lack := self._refused.get(attachment.network_id):
                raise NetworkFailed(lack)
        wiring = plugs(task_id, attachments, self._overlays, self._names, self.underlay_mtu)
        holders = {plug.cidr for held, ps in self.tasks.items() if held != task_id for plug in ps}
        if taken := [plug.cidr for plug in wiring if plug.cidr in holders]:
            raise NetworkFailed(f"address {taken[0]} is in use")
        self.tasks[task_id] = wiring
        self.kernel, _ = self._accepted(self._wanted())
        return f"/fake/netns/{task_id}"

    async def detach(self, task_id: TaskId) -> None:
        """Forget the task."""
        if self.tasks.pop(task_id, None) is not None:
            self.kernel, _ = self._accepted(self._wanted())

    async def found(self) -> set[TaskId]:
        """The tasks that were attached and not detached."""
        return set(self.tasks)

    async def check(self) -> tuple[Drift, ...]:
        """What differs from what the last sync made."""
        sealing = ipsec.difference(self._sealing(), self.sealing)
        return plan.drifts(plan.difference(self._wanted(), self.kernel)) + ipsec.drifts(sealing)

    def backends(self, task_id: TaskId, address: str) -> tuple[str, ...] | None:
        """Where the task's connections to an address may go; None if it is no virtual address."""
        joined = {plug.bridge for plug in self.tasks.get(task_id, ())}
        for endpoint in self.endpoints.values():
            if self._names.bridge(endpoint.network_id) in joined and endpoint.vip == address:
                overlay = self._overlays.get(endpoint.network_id)
                return ruleset.vip(endpoint, overlay, None).backends
        return None

    def holder(self, address: str) -> TaskId | None:
        """The task on this host that answers at the address."""
        for task_id, wiring in self.tasks.items():
            for plug in wiring:
                if address in _addresses(plug):
                    plugged = self.kernel.ports.get(plug.port.name) == plug.bridge
                    return task_id if plugged else None
        return None

    def encrypts(self, tunnel: str) -> bool:
        """Does what is sent into the tunnel leave this host encrypted?"""
        sealed = filter(ipsec.is_encrypted, self._overlays.values())
        return any(self._names.vxlan(overlay.network_id) == tunnel for overlay in sealed)

    def _accepted(self, want: KernelState) -> tuple[KernelState, list[Refusal]]:
        """What the kernel makes of it, and what it refuses."""
        asked: list[Route | Fdb] = [*want.routes, *want.fdb]
        refused = [
            Refusal(entry.device, entry, reason)
            for entry in sorted(asked, key=str)
            if (reason := self.refuses(entry))
        ]
        gone = {one.entry for one in refused}
        kept = replace(want, routes=want.routes - gone, fdb=want.fdb - gone)
        return kept, refused

    def _sealing(self) -> Sealing:
        return ipsec.wanted(self._overlays.values(), self._names, self.underlay)

    def _wanted(self) -> KernelState:
        wirings = self.tasks.values()
        ports = {plug.port.name: plug.bridge for wiring in wirings for plug in wiring}
        overlays = list(self._overlays.values())
        published = {task.network_id for task in self.published.values()}
        return plan.wanted(
            overlays, self._names, self.underlay, self.underlay_mtu, ports, published=published
        )


class FakeResolvers:
    """Remembers which tasks have a resolver, and what those are told."""

    def __init__(self) -> None:
        self.open_for: dict[TaskId, tuple[tuple[NetworkId, ...], tuple[str, ...]]] = {}
        """Networks and name servers of each task."""
        self.opened = asyncio.Event()
        self.endpoints: tuple[EndpointWanted, ...] = ()

    def know(self, overlays: Iterable[OverlayWanted], endpoints: Iterable[EndpointWanted]) -> None:
        """Remember the endpoints."""
        self.endpoints = tuple(endpoints)

    def change(self, changed: Mapping[EndpointKey, EndpointWanted | None]) -> None:
        """Remember these, too."""
        kept = [endpoint for endpoint in self.endpoints if endpoint.key not in changed]
        self.endpoints = (*kept, *filter(None, changed.values()))

    async def open(
        self, task_id: TaskId, networks: Sequence[NetworkId], servers: Sequence[str]
    ) -> None:
        """Remember the task."""
        self.open_for[task_id] = (tuple(networks), tuple(servers))
        self.opened.set()

    async def close(self, task_id: TaskId) -> None:
        """Forget the task."""
        self.open_for.pop(task_id, None)


class Fabric:
    """The underlay: hosts by their address.

    `cut` names pairs of addresses that no packet passes between.
    """

    def __init__(self) -> None:
        self.hosts: dict[str, FakeDataplane] = {}
        self.cut: set[frozenset[str]] = set()

    def reaches(self, host: str, task_id: TaskId, address: str) -> bool:
        """Do packets of the task get to the task that has `address`, and answers back?"""
        for plug in self.hosts[host].tasks.get(task_id, ()):
            sources = [one for one in _addresses(plug) if (":" in one) == (":" in address)]
            target = self._walk(host, plug, address) if sources else None
            if target is None:
                continue
            far_host, far_task = target
            for far_plug in self.hosts[far_host].tasks[far_task]:
                if address in _addresses(far_plug):
                    return self._walk(far_host, far_plug, sources[0]) == (host, task_id)
        return False

    def answers(self, host: str, task_id: TaskId, address: str) -> set[str]:
        """The addresses that connections of the task to `address` end at, all chances taken."""
        backends = self.hosts[host].backends(task_id, address)
        targets = (address,) if backends is None else backends
        return {target for target in targets if self.reaches(host, task_id, target)}

    def _walk(self, host: str, plug: Plug, address: str) -> tuple[str, TaskId] | None:
        """Where a packet that leaves by the plug ends; None if it is lost or leaves its network."""
        here = self.hosts[host]
        tunnel = plug.bridge.replace("-b", "-x", 1)
        route = _route(here.kernel, address)
        if route is None or here.kernel.ports.get(plug.port.name) != plug.bridge:
            return None
        if route.device == plug.bridge:
            return _held(host, here, address)
        if route.device != tunnel:
            return None
        for far in _far_ends(here.kernel, route):
            there = self.hosts.get(far)
            if there is not None and frozenset((host, far)) not in self.cut:
                if here.encrypts(tunnel) and not _opens(here.sealing, there.sealing, far):
                    return None
                return _arrive(far, there, here.kernel, tunnel, address)
        return None


def _refuses(entry: Route | Fdb) -> str:
    """As Linux does."""
    if isinstance(entry, Fdb) and ":" in entry.vtep:
        return "the kernel refused: Address family not supported by protocol"
    return ""


def _route(kernel: KernelState, address: str) -> Route | None:
    main = [route for route in kernel.routes if not route.table]
    fits = [r for r in main if ip_address(address) in ip_network(r.dst)]
    return max(fits, key=lambda r: ip_network(r.dst).prefixlen, default=None)


def _addresses(plug: Plug) -> tuple[str, ...]:
    """Those that the task has by this plug, of both versions."""
    cidrs = (plug.cidr, plug.six.cidr) if plug.six else (plug.cidr,)
    return tuple(cidr.partition("/")[0] for cidr in cidrs)


def _far_ends(kernel: KernelState, route: Route) -> Iterator[str]:
    macs = {n.mac for n in kernel.neighbours if (n.device, n.address) == (route.device, route.via)}
    for entry in sorted(kernel.fdb, key=lambda fdb: fdb.vtep):
        if entry.device == route.device and entry.mac in macs:
            yield entry.vtep


def _opens(here: Sealing, there: Sealing, far: str) -> bool:
    """Has the far end the key of the association that our policy names?"""
    named = {policy.spi for policy in here.policies if policy.destination == far}
    ours = {(one.name, one.key) for one in here.associations if one.spi in named}
    return any((one.name, one.key) in ours for one in there.associations)


def _held(host: str, dataplane: FakeDataplane, address: str) -> tuple[str, TaskId] | None:
    task_id = dataplane.holder(address)
    return None if task_id is None else (host, task_id)


def _arrive(
    far: str, there: FakeDataplane, sender: KernelState, tunnel: str, address: str
) -> tuple[str, TaskId] | None:
    """The far end takes a packet only by a tunnel of the same VNI, to that network's bridge."""
    vni = sender.links[tunnel].vni
    bridges = {
        n.replace("-x", "-b", 1) for n, link in there.kernel.links.items() if link.vni == vni
    }
    route = _route(there.kernel, address)
    if route is None or route.device not in bridges:
        return None
    return _held(far, there, address)
