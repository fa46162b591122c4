"""An `Overlay` in memory, for unit tests and the simulator. Its tables come from the real plan.

A `Fabric` connects the hosts: it computes whether one task reaches another from the routes,
neighbours, FDB entries and tunnels that a packet would use. Tests may change `FakeOverlay.kernel`;
`sync` repairs it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network

from msgspec.structs import replace

from agent.network.base import (
    HOST_BRIDGE,
    Attachment,
    Bandwidth,
    DesiredOverlay,
    Drift,
    Fault,
    NetworkFailed,
    Underlay,
)
from agent.network.encryption import ipsec
from agent.network.encryption.ipsec import IpsecState
from agent.network.names import Names
from agent.network.netlink import Netlink
from agent.network.overlay import plan, refusal
from agent.network.overlay.base import AttachedTask
from agent.network.overlay.plan import Refusal
from agent.network.overlay.plug import Plug, plugs
from agent.network.state import Fdb, KernelState, Route
from agent.network.vips.base import InNamespace
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.states import Capability


class FakeOverlay:
    """One host's tables. `kernel` and `tasks` outlive a restarted agent."""

    def __init__(
        self, fabric: "Fabric", names: Names, underlay: Underlay, *, fast_path: bool = True
    ) -> None:
        self.underlay = underlay
        self.kernel = KernelState()
        self.tasks: dict[TaskId, tuple[Plug, ...]] = {}
        self.ipsec_state = IpsecState()
        self.underlay_mtu = 1500
        self.devices_made = 0
        self.lacks: dict[Capability, str] = {}
        """The capabilities that the kernel lacks, and why."""
        self.refuses: Callable[[Route | Fdb], str] = _refuses
        """Why the kernel refuses an entry; "" if it accepts it."""
        self.carried: dict[NetworkId, DesiredOverlay] = {}
        self.refused: dict[NetworkId, str] = {}
        self._names = names
        self._fast_path = fast_path
        self._published: frozenset[NetworkId] = frozenset()
        self._paths: Mapping[str, int] = plan.NO_PATHS
        fabric.hosts[underlay.address] = self

    def plugs(self) -> list[Plug]:
        """See Overlay."""
        return [plug for wiring in self.tasks.values() for plug in wiring]

    def plugs_of(self, task_id: TaskId) -> tuple[Plug, ...]:
        """See Overlay."""
        return self.tasks.get(task_id, ())

    async def set_desired(self, overlays: Sequence[DesiredOverlay]) -> None:
        """See Overlay."""
        self.refused = refusal.refusals(overlays, self.lacks, self.underlay_mtu)
        self.carried = {o.network_id: o for o in overlays if o.network_id not in self.refused}

    async def sync(
        self, published: Collection[NetworkId], paths: Mapping[str, int]
    ) -> tuple[Fault, ...]:
        """See Overlay."""
        self._published, self._paths = frozenset(published), dict(paths)
        before = self.kernel.links
        self.kernel, refused = self._accepted(self._desired_state())
        self.devices_made += before != self.kernel.links
        self.ipsec_state = self._desired_ipsec()
        return refusal.of_kernel(self.carried.values(), self._names, refused)

    async def check(self) -> tuple[Drift, ...]:
        """See Overlay."""
        ipsec_changes = ipsec.difference(self._desired_ipsec(), self.ipsec_state)
        return plan.drifts(plan.difference(self._desired_state(), self.kernel)) + ipsec.drifts(
            ipsec_changes
        )

    async def attach(
        self,
        task_id: TaskId,
        attachments: Sequence[Attachment],
        inside: InNamespace,
        gone: Sequence[NetworkId] = (),
    ) -> AttachedTask:
        """See Overlay. The path is made up."""
        for attachment in attachments:
            if lack := self.refused.get(attachment.network_id):
                raise NetworkFailed(lack)
        wiring = plugs(
            task_id, attachments, self.carried, self._names, self.underlay_mtu,
            fast_path=self._fast_path,
        )  # fmt: skip
        holders = {plug.cidr for held, ps in self.tasks.items() if held != task_id for plug in ps}
        if taken := [plug.cidr for plug in wiring if plug.cidr in holders]:
            raise NetworkFailed(f"address {taken[0]} is in use")
        networks = tuple(a.network_id for a in attachments if a.network_id != HOST_BRIDGE)
        former = {plug.port.name for plug in self.tasks.get(task_id, ())}
        made = tuple(plug for plug in wiring if plug.port.name not in former)
        if task_id in self.tasks:
            inside.adopt(task_id, networks, _no_netfilter)
        else:
            with inside.new(task_id, networks, _no_netfilter):
                pass
        self.tasks[task_id] = wiring
        self.kernel, _ = self._accepted(self._desired_state())
        return AttachedTask(f"/fake/netns/{task_id}", wiring, made)

    async def limit(self, task_id: TaskId, bandwidth: Bandwidth) -> None:
        """See Overlay."""
        wiring = self.tasks.get(task_id, ())
        self.tasks[task_id] = tuple(replace(plug, bandwidth=bandwidth) for plug in wiring)

    async def detach(self, task_id: TaskId, inside: InNamespace) -> None:
        """See Overlay."""
        inside.forget(task_id)
        if self.tasks.pop(task_id, None) is not None:
            self.kernel, _ = self._accepted(self._desired_state())

    async def found(self) -> set[TaskId]:
        """See Overlay."""
        return set(self.tasks)

    async def missing_capabilities(self) -> Mapping[Capability, str]:
        """See Overlay."""
        return self.lacks

    async def addresses6(self) -> tuple[str, ...]:
        """See Overlay. There are none."""
        return ()

    def worn_key(self) -> int:
        """See Overlay. No key must be replaced."""
        return 0

    def holder(self, address: str) -> TaskId | None:
        """The task on this host that has the address and is attached to its bridge."""
        for task_id, wiring in self.tasks.items():
            for plug in wiring:
                if address in plug.addresses:
                    plugged = self.kernel.ports.get(plug.port.name) == plug.bridge
                    return task_id if plugged else None
        return None

    def encrypts(self, tunnel: str) -> bool:
        """Whether packets sent into the tunnel leave this host encrypted."""
        encrypted = filter(ipsec.is_encrypted, self.carried.values())
        return any(self._names.vxlan(overlay.network_id) == tunnel for overlay in encrypted)

    def _accepted(self, desired: KernelState) -> tuple[KernelState, list[Refusal]]:
        """The state that results in the kernel, and the entries that it refuses."""
        asked: list[Route | Fdb] = [*desired.routes, *desired.fdb]
        refused = [
            Refusal(entry.device, entry, reason)
            for entry in sorted(asked, key=str)
            if (reason := self.refuses(entry))
        ]
        gone = {one.entry for one in refused}
        kept = replace(desired, routes=desired.routes - gone, fdb=desired.fdb - gone)
        return kept, refused

    def _desired_ipsec(self) -> IpsecState:
        return ipsec.desired_state(self.carried.values(), self._names, self.underlay)

    def _desired_state(self) -> KernelState:
        wirings = self.tasks.values()
        ports = {plug.port.name: plug.bridge for wiring in wirings for plug in wiring}
        overlays = list(self.carried.values())
        return plan.desired_state(
            overlays, self._names, self.underlay, self.underlay_mtu, ports,
            published=self._published, paths=self._paths,
        )  # fmt: skip


class Fabric:
    """The underlay: hosts by their address.

    `cut` holds pairs of addresses between which every packet is lost.
    """

    def __init__(self) -> None:
        self.hosts: dict[str, FakeOverlay] = {}
        self.cut: set[frozenset[str]] = set()

    def reaches(self, host: str, task_id: TaskId, address: str) -> bool:
        """Whether packets of the task reach the task that has `address`, and answers return."""
        for plug in self.hosts[host].tasks.get(task_id, ()):
            sources = [one for one in plug.addresses if (":" in one) == (":" in address)]
            target = self._walk(host, plug, address) if sources else None
            if target is None:
                continue
            far_host, far_task = target
            for far_plug in self.hosts[far_host].tasks[far_task]:
                if address in far_plug.addresses:
                    return self._walk(far_host, far_plug, sources[0]) == (host, task_id)
        return False

    def _walk(self, host: str, plug: Plug, address: str) -> tuple[str, TaskId] | None:
        """The destination of a packet sent by the interface; None if it is lost or leaves its
        network.
        """
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
                if here.encrypts(tunnel) and not _opens(here.ipsec_state, there.ipsec_state, far):
                    return None
                return _arrive(far, there, here.kernel, tunnel, address)
        return None


def _refuses(entry: Route | Fdb) -> str:
    """What Linux refuses."""
    if isinstance(entry, Fdb) and ":" in entry.vtep:
        return "the kernel refused: Address family not supported by protocol"
    return ""


def _route(kernel: KernelState, address: str) -> Route | None:
    main = [route for route in kernel.routes if not route.table]
    fits = [r for r in main if ip_address(address) in ip_network(r.dst)]
    return max(fits, key=lambda r: ip_network(r.dst).prefixlen, default=None)


def _far_ends(kernel: KernelState, route: Route) -> Iterator[str]:
    macs = {n.mac for n in kernel.neighbours if (n.device, n.address) == (route.device, route.via)}
    for entry in sorted(kernel.fdb, key=lambda fdb: fdb.vtep):
        if entry.device == route.device and entry.mac in macs:
            yield entry.vtep


def _opens(here: IpsecState, there: IpsecState, far: str) -> bool:
    """Whether the far end has the key of the association that our policy uses."""
    named = {policy.spi for policy in here.policies if policy.destination == far}
    ours = {(one.name, one.key) for one in here.associations if one.spi in named}
    return any((one.name, one.key) in ours for one in there.associations)


def _held(host: str, overlay: FakeOverlay, address: str) -> tuple[str, TaskId] | None:
    task_id = overlay.holder(address)
    return None if task_id is None else (host, task_id)


def _arrive(
    far: str, there: FakeOverlay, sender: KernelState, tunnel: str, address: str
) -> tuple[str, TaskId] | None:
    """The task that receives the packet at the far end, which accepts it only from a tunnel of the
    same VNI, and only to that network's bridge.
    """
    vni = sender.links[tunnel].vni
    bridges = {
        n.replace("-x", "-b", 1) for n, link in there.kernel.links.items() if link.vni == vni
    }
    route = _route(there.kernel, address)
    if route is None or route.device not in bridges:
        return None
    return _held(far, there, address)


def _no_netfilter() -> Netlink:
    raise NetworkFailed("a fake has no kernel")
