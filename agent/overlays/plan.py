"""What this host's networks should be, and what of that the kernel does not follow yet. PURE
(mutable).

It is what the controller assigned, networks that it withdrew and local tasks are still attached to,
and the ports of this host that tasks hold. `take_work` says what the next sync has to do;
`overlays.py` does it.
"""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network

import msgspec

from agent.assignment import Assignment
from agent.network.base import (
    HOST_BRIDGE,
    HOST_NETWORK,
    NO_NETWORK,
    DesiredEndpoint,
    DesiredOverlay,
    EndpointKey,
    NetworkFailed,
    Published,
    host_bridge,
)
from agent.network.ipam import gateway
from agent.network.overlay.plug import default_network
from agent.overlays.addresses import Addresses, NoAddressFree
from agent.overlays.checks import checked_overlay, endpoint_faults
from agent.overlays.faults import Faults
from agent.overlays.hostports import HostPorts, is_of_host
from pyswarm_core.addresses import address6
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.objects import TaskAddress
from pyswarm_core.specs import PortConfig


class SavedPlan(msgspec.Struct, frozen=True):
    """What outlives the agent."""

    overlays: tuple[DesiredOverlay, ...] = ()
    endpoints: tuple[DesiredEndpoint, ...] = ()
    published: tuple[Published, ...] = ()


class Attached(msgspec.Struct, frozen=True, kw_only=True):
    """How a task is on the network."""

    netns_path: str = ""
    """Empty: it is in the host's namespace."""
    addresses: tuple[TaskAddress, ...] = ()
    own: tuple[str, ...] = ()
    """Every address of its, of both versions."""
    gateway: str = "127.0.0.1"
    """Where it reaches the host."""
    has_resolver: bool = False


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What one sync has to do. `version`: of the plan. `anew`: look at everything; otherwise only
    these endpoints changed (None: gone). Then `revision` and `digest` are followed.
    """

    version: int
    revision: int
    digest: int
    anew: bool
    changed: Mapping[EndpointKey, DesiredEndpoint | None]


def own_networks(networks: Iterable[NetworkId]) -> tuple[NetworkId, ...] | None:
    """Those that a task of these gets interfaces in; None: it is in the host's namespace."""
    desired = tuple(networks) or (HOST_BRIDGE,)
    if desired == (HOST_NETWORK,):
        return None
    return () if desired == (NO_NETWORK,) else desired


class Plan:
    """The desired networks of one host."""

    def __init__(self, bridge_subnet: str, own_address: str = "") -> None:
        """`own_address` is this host's on the underlay."""
        self.faults = Faults()
        self.version = 0
        """Rises with every change that a sync has to carry out."""
        self.revision = 0
        """Of the newest assignment."""
        self.digest = 0
        """Of all endpoints: the exclusive or of theirs."""
        self._own_address = own_address
        self._bridge = host_bridge(bridge_subnet)
        self._assigned: dict[NetworkId, DesiredOverlay] = {}
        self._leaving: dict[NetworkId, DesiredOverlay] = {}
        self._endpoints: dict[EndpointKey, DesiredEndpoint] = {}
        self._published: dict[TaskId, Published] = {}
        self._dirty: dict[EndpointKey, None] = {}
        """Endpoints that have changed since a sync last began."""
        self._anew = True
        """Something else has changed as well, or the kernel: then all is looked at."""
        self._addresses = Addresses()
        self._ports = HostPorts()
        self._addresses.grant(HOST_BRIDGE, self._bridge.local_blocks)

    def restore(self, kept: SavedPlan) -> None:
        """Begin with what a former agent kept."""
        for endpoint in filter(self._is_valid, kept.endpoints):
            self._endpoints[endpoint.key] = endpoint
            self.digest ^= endpoint.digest
            self._dirty[endpoint.key] = None
        self._published.update((task.task_id, task) for task in kept.published)
        for overlay in filter(None, map(self._checked, kept.overlays)):
            self._assigned[overlay.network_id] = overlay
            self._addresses.grant(overlay.network_id, overlay.local_blocks)

    def assign(self, assignment: Assignment) -> bool:
        """Take what the controller says: some networks and endpoints changed, some are gone; a full
        assignment names them all. Whether a sync has to carry anything out.
        """
        self.revision = assignment.revision
        full = assignment.full
        self.faults.clear_invalid(
            None if full else (*assignment.removed_overlays, *assignment.removed_endpoints)
        )
        named = {o.network_id: o for o in map(self._checked, assignment.overlays) if o is not None}
        gone = (
            [n for n in self._assigned if n not in named] if full else assignment.removed_overlays
        )
        anew = False
        for network_id in gone:
            if overlay := self._assigned.pop(network_id, None):
                self._leaving[network_id] = overlay
                anew = True
        for network_id, overlay in named.items():
            left = self._leaving.pop(network_id, None)
            anew |= left is not None or self._assigned.get(network_id) != overlay
            self._assigned[network_id] = overlay
            self._addresses.grant(network_id, overlay.local_blocks)
        changed = self._take_endpoints(assignment)
        if anew or changed:
            self._drop_unused()
            self.change(anew=anew)
        return anew or changed

    def change(self, *, anew: bool = True) -> None:
        """The next sync has something to do; everything, unless endpoints alone changed."""
        self._anew |= anew
        self.version += 1

    def look_at_all(self) -> None:
        """The kernel is not as it was made: the next sync looks at everything."""
        self._anew = True

    def take_work(self) -> Work:
        """What the next sync has to do; what changes from now on is left to the one after it."""
        work = Work(
            version=self.version, revision=self.revision, digest=self.digest, anew=self._anew,
            changed={key: self._endpoints.get(key) for key in self._dirty},
        )  # fmt: skip
        self._anew, self._dirty = False, {}
        return work

    def kept(self) -> SavedPlan:
        """Networks and ports to keep; endpoints are kept one by one."""
        overlays = (*self._assigned.values(), *self._leaving.values())
        return SavedPlan(overlays, (), tuple(self._published.values()))

    @property
    def carried(self) -> tuple[DesiredOverlay, ...]:
        """Every network that this host should carry."""
        return (self._bridge, *self._assigned.values(), *self._leaving.values())

    @property
    def endpoints(self) -> tuple[DesiredEndpoint, ...]:
        """Every endpoint that its tasks, or the routing mesh, may reach."""
        return tuple(self._endpoints.values())

    @property
    def published(self) -> Mapping[TaskId, Published]:
        """The tasks that ports of this host are forwarded to."""
        return self._published

    def unassigned(self, networks: Iterable[NetworkId]) -> NetworkId | None:
        """One of these that this host was not assigned; None: it has them all."""
        known = (HOST_BRIDGE, *self._assigned)
        return next((network_id for network_id in networks if network_id not in known), None)

    def name(self, network_id: NetworkId) -> str:
        """What people call the network."""
        overlay = self._assigned.get(network_id)
        return overlay.name if overlay else str(network_id)

    def adopt(
        self, task_id: TaskId, addresses: tuple[TaskAddress, ...], ports: tuple[PortConfig, ...]
    ) -> None:
        """A task that was here before has these addresses, and these ports of the host."""
        self._ports.hold(task_id, ports)
        self._addresses.adopt(task_id, addresses)

    def addresses(self, task_id: TaskId) -> tuple[TaskAddress, ...]:
        """What the task holds."""
        return self._addresses.of(task_id)

    def join(self, task_id: TaskId, networks: tuple[NetworkId, ...]) -> tuple[TaskAddress, ...]:
        """An address on each of these networks, which the task keeps until it leaves. Raises
        NetworkFailed: none is free.
        """
        if held := self._addresses.of(task_id):
            return held
        given = self._addresses.allocate(task_id, networks)
        if isinstance(given, NoAddressFree):
            raise NetworkFailed(f"network {self.name(given.network_id)}: {given.why}")
        return given

    def attached(self, task_id: TaskId, path: str, *, has_resolver: bool) -> Attached:
        """How a task that has joined is on the network."""
        addresses = self._addresses.of(task_id)
        own: list[str] = []
        gateways: list[str] = []
        for held in addresses:
            overlay = self._overlay(held.network_id)
            own.append(held.address)
            if overlay is None:
                continue
            if overlay.subnet6:
                own.append(address6(overlay.subnet, overlay.subnet6, held.address))
            gateways += (
                overlay.gateway or gateway(block)
                for block in overlay.local_blocks
                if IPv4Address(held.address) in IPv4Network(block)
            )
        return Attached(
            netns_path=path, addresses=addresses, own=tuple(own),
            gateway=gateways[0] if gateways else "127.0.0.1", has_resolver=has_resolver,
        )  # fmt: skip

    def claim(self, task_id: TaskId, ports: Iterable[PortConfig]) -> tuple[PortConfig, ...]:
        """The ports of mode host among these, with numbers of which the task is sure until it
        leaves; none if the task is on no network of its own (host, none). Raises NetworkFailed: no
        number is free, or the task has no default route.
        """
        if not self._addresses.of(task_id):
            return ()
        desired = tuple(filter(is_of_host, ports))
        # Only who asks for one pays for a look at all that are taken.
        chosen = self._ports.choose(desired, self._meshed()) if desired else ()
        if chosen is None:
            raise NetworkFailed("every port of this host from 32768 to 60999 is published")
        if chosen and self._default_address(task_id) is None:
            raise NetworkFailed(
                "ports of mode host are forwarded to no task that has only internal networks"
            )
        self._ports.hold(task_id, chosen)
        return chosen

    def publish(self, task_id: TaskId, ports: tuple[PortConfig, ...]) -> bool:
        """Forward these ports of the host to the task, and no others; whether a sync has to."""
        address = self._default_address(task_id)
        if ports and address is not None:
            self._published[task_id] = Published(
                task_id=task_id, network_id=address.network_id, address=address.address, ports=ports
            )
        elif self._published.pop(task_id, None) is None:
            return False
        self.change()
        return True

    def leave(self, task_id: TaskId) -> bool:
        """The task is gone, with its addresses and ports; whether a sync has something to do."""
        self._ports.release(task_id)
        withdrawn = self._published.pop(task_id, None)
        self._addresses.release(task_id)
        if not (self._leaving and self._drop_unused()) and not withdrawn:
            return False
        self.change()
        return True

    def _meshed(self) -> Iterable[PortConfig]:
        return (port for endpoint in self._endpoints.values() for port in endpoint.ports)

    def _take_endpoints(self, assignment: Assignment) -> bool:
        """Whether any has changed."""
        told = {e.key: e for e in assignment.endpoints if self._is_valid(e)}
        gone = list(assignment.removed_endpoints)
        if assignment.full:
            gone += (key for key in self._endpoints if key not in told)
        before = len(self._dirty), self.digest
        for key in gone:
            if (old := self._endpoints.pop(key, None)) is not None:
                self.digest ^= old.digest
                self._dirty[key] = None
        for key, endpoint in told.items():
            old = self._endpoints.get(key)
            if old == endpoint:
                continue
            self.digest ^= endpoint.digest ^ (old.digest if old else 0)
            self._endpoints[key] = endpoint
            self._dirty[key] = None
        return (len(self._dirty), self.digest) != before

    def _default_address(self, task_id: TaskId) -> TaskAddress | None:
        """The task's address on the network that its default route goes through."""
        addresses = self._addresses.of(task_id)
        place = default_network([self._overlay(address.network_id) for address in addresses])
        return None if place is None else addresses[place]

    def _checked(self, overlay: DesiredOverlay) -> DesiredOverlay | None:
        kept, faults = checked_overlay(overlay, self._own_address)
        self.faults.set_invalid(overlay.network_id, faults)
        return kept

    def _is_valid(self, endpoint: DesiredEndpoint) -> bool:
        faults = endpoint_faults(endpoint)
        self.faults.set_invalid(endpoint.key, faults)
        return not faults

    def _overlay(self, network_id: NetworkId) -> DesiredOverlay | None:
        if network_id == HOST_BRIDGE:
            return self._bridge
        return self._assigned.get(network_id) or self._leaving.get(network_id)

    def _drop_unused(self) -> bool:
        unused = [n for n in self._leaving if not self._addresses.used(n)]
        for network_id in unused:
            del self._leaving[network_id]
            self._addresses.drop(network_id)
        return bool(unused)
