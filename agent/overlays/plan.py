"""The desired networks of this host, and the part of them that the kernel does not implement yet.
PURE (mutable).

The plan consists of what the controller assigned, of networks that it withdrew while local tasks
are still attached, and of the host ports that tasks hold. `take_work` returns what the next sync
has to do; `overlays.py` does it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network

import msgspec

from agent.assignment import Assignment
from agent.network.base import (
    HOST_BRIDGE,
    HOST_NETWORK,
    NO_NETWORK,
    ApiCaller,
    ControlPlane,
    DesiredEndpoint,
    DesiredOverlay,
    EndpointKey,
    NetworkFailed,
    Published,
    host_bridge,
)
from agent.network.ipam import gateway
from agent.network.overlay.plug import default_network
from agent.overlays.addresses import NONE_CHOSEN, Addresses, AddressTaken, NoAddressFree
from agent.overlays.checks import checked_overlay, endpoint_faults
from agent.overlays.faults import Faults
from agent.overlays.hostports import HostPorts, is_of_host
from pyswarm_core.addresses import address6
from pyswarm_core.controlplane import ControlHost, checked_hosts
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.objects import TaskAddress
from pyswarm_core.specs import PortConfig

CONTROLLERS = "controllers"
"""The source of what controllers reported."""
_SAVED = "saved"


class SavedPlan(msgspec.Struct, frozen=True):
    """The part of the plan that outlives the agent."""

    overlays: tuple[DesiredOverlay, ...] = ()
    endpoints: tuple[DesiredEndpoint, ...] = ()
    published: tuple[Published, ...] = ()
    control: ControlPlane = ControlPlane()


class Attached(msgspec.Struct, frozen=True, kw_only=True):
    """A task's network as its container sees it."""

    netns_path: str = ""
    """Empty: the task is in the host's namespace."""
    addresses: tuple[TaskAddress, ...] = ()
    own: tuple[str, ...] = ()
    """All addresses of the task, IPv4 and IPv6."""
    gateway: str = "127.0.0.1"
    """The address at which the task reaches the host."""
    has_resolver: bool = False


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What one sync has to do. `version` is that of the plan. `anew`: compare everything; otherwise
    only the endpoints in `changed` differ (None: removed). After the sync the kernel implements
    `revision` and `digest`.
    """

    version: int
    revision: int
    digest: int
    anew: bool
    changed: Mapping[EndpointKey, DesiredEndpoint | None]


def own_networks(networks: Iterable[NetworkId]) -> tuple[NetworkId, ...] | None:
    """The networks that a task on these gets interfaces on; None: the task is in the host's
    namespace.
    """
    desired = tuple(networks) or (HOST_BRIDGE,)
    if desired == (HOST_NETWORK,):
        return None
    return () if desired == (NO_NETWORK,) else desired


class Plan:
    """The desired networks of one host."""

    def __init__(self, bridge_subnet: str, own_address: str = "") -> None:
        """`own_address` is this host's address on the underlay."""
        self.faults = Faults()
        self.version = 0
        """Incremented by every change that requires a sync."""
        self.revision = 0
        """The revision of the newest assignment."""
        self.digest = 0
        """The exclusive or of all endpoints' digests."""
        self._own_address = own_address
        self._bridge = host_bridge(bridge_subnet)
        self._assigned: dict[NetworkId, DesiredOverlay] = {}
        self._leaving: dict[NetworkId, DesiredOverlay] = {}
        self._endpoints: dict[EndpointKey, DesiredEndpoint] = {}
        self._published: dict[TaskId, Published] = {}
        self._closed: dict[str, tuple[ControlHost, ...]] = {}
        """What is closed to tasks, by who reported it."""
        self._callers: dict[TaskId, ApiCaller] = {}
        self._dirty: dict[EndpointKey, None] = {}
        """The endpoints that changed since the last sync began."""
        self._anew = True
        """Something other than endpoints changed, or the kernel did: the next sync compares
        everything.
        """
        self._addresses = Addresses()
        self._ports = HostPorts()
        self._addresses.grant(HOST_BRIDGE, self._bridge.local_blocks)

    def restore(self, kept: SavedPlan) -> None:
        """Load what an earlier agent stored."""
        for endpoint in filter(self._is_valid, kept.endpoints):
            self._endpoints[endpoint.key] = endpoint
            self.digest ^= endpoint.digest
            self._dirty[endpoint.key] = None
        self._published.update((task.task_id, task) for task in kept.published)
        self._closed[_SAVED] = checked_hosts(kept.control.hosts)
        self._callers.update((task.task_id, task) for task in kept.control.callers)
        for overlay in filter(None, map(self._checked, kept.overlays)):
            self._assigned[overlay.network_id] = overlay
            self._addresses.grant(overlay.network_id, overlay.local_blocks)

    def assign(self, assignment: Assignment) -> bool:
        """Apply an assignment: changed and removed networks and endpoints; a full assignment names
        all of them. Returns whether a sync is required.
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
        """Require a sync: of everything, or (not `anew`) of the changed endpoints only."""
        self._anew |= anew
        self.version += 1

    def look_at_all(self) -> None:
        """The kernel was changed by others: the next sync compares everything."""
        self._anew = True

    def take_work(self) -> Work:
        """The work of the next sync. Later changes are left to the one after it."""
        work = Work(
            version=self.version, revision=self.revision, digest=self.digest, anew=self._anew,
            changed={key: self._endpoints.get(key) for key in self._dirty},
        )  # fmt: skip
        self._anew, self._dirty = False, {}
        return work

    def kept(self) -> SavedPlan:
        """The networks and ports to store; endpoints are stored one by one."""
        overlays = (*self._assigned.values(), *self._leaving.values())
        return SavedPlan(overlays, (), tuple(self._published.values()), self.control)

    @property
    def carried(self) -> tuple[DesiredOverlay, ...]:
        """All networks that this host should carry."""
        return (self._bridge, *self._assigned.values(), *self._leaving.values())

    @property
    def endpoints(self) -> tuple[DesiredEndpoint, ...]:
        """All endpoints that the host's tasks, or the routing mesh, may reach."""
        return tuple(self._endpoints.values())

    @property
    def published(self) -> Mapping[TaskId, Published]:
        """The tasks that ports of this host are forwarded to."""
        return self._published

    @property
    def named(self) -> frozenset[TaskId]:
        """The tasks that rules name: by their ports of this host, or as callers of the API."""
        return frozenset((*self._published, *self._callers))

    @property
    def control(self) -> ControlPlane:
        """What is closed to tasks, and the tasks that may call the API."""
        hosts = dict.fromkeys(host for hosts in self._closed.values() for host in hosts)
        return ControlPlane(hosts=tuple(hosts), callers=tuple(self._callers.values()))

    def close(self, source: str, hosts: Iterable[ControlHost]) -> bool:
        """Close these to tasks, instead of what the same source reported before: the controllers,
        or this agent itself. Returns whether a sync is required.
        """
        before = self.control
        self._closed[source] = checked_hosts(hosts)
        if source == CONTROLLERS:
            self._closed.pop(_SAVED, None)
        if self.control == before:
            return False
        self.change()
        return True

    def allow_api(self, task_id: TaskId) -> bool:
        """The task, which has joined, may call the controllers' API until it leaves. Returns
        whether a sync is required.
        """
        caller = ApiCaller(task_id=task_id, addresses=self._addresses.of(task_id))
        if not caller.addresses or self._callers.get(task_id) == caller:
            return False
        self._callers[task_id] = caller
        self.change()
        return True

    def unassigned(self, networks: Iterable[NetworkId], *, is_new: bool = True) -> NetworkId | None:
        """One of these networks that is not assigned to this host; None if all are. Unless
        `is_new`, networks count that the host had and tasks are still attached to.
        """
        known = (HOST_BRIDGE, *self._assigned, *(() if is_new else self._leaving))
        return next((network_id for network_id in networks if network_id not in known), None)

    def name(self, network_id: NetworkId) -> str:
        """The network's name; its id if the network is unknown."""
        overlay = self._assigned.get(network_id)
        return overlay.name if overlay else str(network_id)

    def adopt(
        self, task_id: TaskId, addresses: tuple[TaskAddress, ...], ports: tuple[PortConfig, ...]
    ) -> None:
        """Record the addresses and host ports of a task that an earlier agent started."""
        self._ports.hold(task_id, ports)
        self._addresses.adopt(task_id, addresses)

    def addresses(self, task_id: TaskId) -> tuple[TaskAddress, ...]:
        """The addresses that the task holds."""
        return self._addresses.of(task_id)

    def join(
        self,
        task_id: TaskId,
        networks: tuple[NetworkId, ...],
        chosen: Mapping[NetworkId, str] = NONE_CHOSEN,
        kept: Collection[tuple[NetworkId, str]] = (),
    ) -> tuple[TaskAddress, ...]:
        """One address on each of these networks, the `chosen` ones first, held until the task
        leaves; those that it holds stay, and none of the `kept` ones, unless chosen. Raises
        NetworkFailed if a chosen one is not free, or none is.
        """
        given = self._addresses.allocate(task_id, networks, chosen, kept)
        if isinstance(given, NoAddressFree | AddressTaken):
            raise NetworkFailed(f"network {self.name(given.network_id)}: {given.why}")
        return given

    def stay(self, task_id: TaskId, addresses: Sequence[TaskAddress]) -> bool:
        """Release the task's other addresses: it has left their networks. Returns whether a sync is
        required.
        """
        if not self._addresses.keep(task_id, addresses):
            return False
        anew = bool(self._leaving and self._drop_unused())
        if (caller := self._callers.get(task_id)) and caller.addresses != tuple(addresses):
            self._callers[task_id] = ApiCaller(task_id=task_id, addresses=tuple(addresses))
            anew = True
        if anew:
            self.change()
        return anew

    def is_held(self, task_id: TaskId, addresses: Mapping[NetworkId, str]) -> bool:
        """Whether another task of this host holds one of these addresses."""
        return self._addresses.is_held(task_id, addresses)

    def attached(self, addresses: tuple[TaskAddress, ...], path: str) -> Attached:
        """The network of a task with these addresses, as its container sees it."""
        has_resolver = any(held.network_id != HOST_BRIDGE for held in addresses)
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
        """Assign host ports: the ports of mode host among these, with numbers that the task holds
        until it leaves; none if the task has no network of its own (host, none). Raises
        NetworkFailed: no number is free, or the task has no default route.
        """
        if not self._addresses.of(task_id):
            return ()
        desired = tuple(filter(is_of_host, ports))
        # Collecting the ports in use is skipped for tasks that request none.
        chosen = self._ports.choose(desired, self._meshed()) if desired else ()
        if chosen is None:
            raise NetworkFailed("no host port is free: all from 32768 to 60999 are published")
        if chosen and self._default_address(task_id) is None:
            raise NetworkFailed(
                "a task that has only internal networks cannot publish ports in mode host"
            )
        self._ports.hold(task_id, chosen)
        return chosen

    def publish(self, task_id: TaskId, ports: tuple[PortConfig, ...]) -> bool:
        """Forward exactly these ports of the host to the task. Returns whether a sync is
        required.
        """
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
        """Release the task's addresses and ports. Returns whether a sync is required."""
        self._ports.release(task_id)
        withdrawn = [self._published.pop(task_id, None), self._callers.pop(task_id, None)]
        self._addresses.release(task_id)
        if not (self._leaving and self._drop_unused()) and not any(withdrawn):
            return False
        self.change()
        return True

    def _meshed(self) -> Iterable[PortConfig]:
        return (port for endpoint in self._endpoints.values() for port in endpoint.ports)

    def _take_endpoints(self, assignment: Assignment) -> bool:
        """Whether an endpoint changed."""
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
        """The task's address on the network of its default route."""
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
