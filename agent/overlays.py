"""The networks this host carries, and who has which address on them. SHELL over `Dataplane` and the
pools.

The wish is what the controller assigned, plus networks it withdrew that local tasks are still
attached to. It is kept in files, so that a restarted agent restores the same network before, and
without, any controller; a power loss, which leaves no task running, may take it.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from itertools import chain
from pathlib import Path

import msgspec

from agent.network.base import (
    HOST_BRIDGE,
    HOST_NETWORK,
    NO_NETWORK,
    Attachment,
    EndpointKey,
    EndpointWanted,
    Fault,
    NetworkFailed,
    OverlayWanted,
    Published,
    Resolvers,
    host_bridge,
)
from agent.network.dataplane import Dataplane
from agent.network.ipam import Exhausted, Pool, gateway
from agent.network.overlay.plug import default_network
from agent.session.assigned import Assigned
from agent.session.faults import Faults
from agent.session.sound import sound, sound_endpoint
from agent.stopwatch import NetworkWatch
from agent.tasks.hostports import number, with_numbers
from agent.wishes import Wishes
from pyswarm_core.addresses import address6
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import SECOND, Instant, seconds
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.limits import NETWORK_WAIT_MAX
from pyswarm_core.objects import Address
from pyswarm_core.specs import PortConfig, PublishMode
from pyswarm_core.units import format_duration

_log = EventLog("agent.overlays")

REPAIR_PERIOD_S = 15.0
"""How often the kernel is compared with what it should be."""
RETRY_S = 1.0


class Attached(msgspec.Struct, frozen=True, kw_only=True):
    """How a task is on the network."""

    netns_path: str = ""
    """Empty: it is in the host's namespace."""
    addresses: tuple[Address, ...] = ()
    own: tuple[str, ...] = ()
    """Every address of its, of both versions."""
    gateway: str = "127.0.0.1"
    """Where it reaches the host."""
    has_resolver: bool = False


def _now() -> Instant:
    return Instant(int(asyncio.get_running_loop().time() * SECOND))


def _own_networks(networks: Iterable[NetworkId]) -> tuple[NetworkId, ...] | None:
    """Those that a task of these gets interfaces in; None: it is in the host's namespace."""
    wanted = tuple(networks) or (HOST_BRIDGE,)
    if wanted == (HOST_NETWORK,):
        return None
    return () if wanted == (NO_NETWORK,) else wanted


class Overlays:
    """Hands out addresses and keeps the dataplane as wanted. `run` does the work; the rest only
    asks for it.
    """

    def __init__(
        self,
        dataplane: Dataplane,
        bridge_subnet: str,
        path: Path,
        acknowledge: Callable[[int, int], None],
        resolvers: Resolvers,
        *,
        own_address: str = "",
        watch: NetworkWatch | None = None,
    ) -> None:
        """`acknowledge` is told the revision of the newest assignment that the kernel follows, and
        the digest of its endpoints. `own_address` is this host's on the underlay.
        """
        self._own_address = own_address
        self._faults = Faults()
        self._dataplane = dataplane
        self._resolvers = resolvers
        self._wishes = Wishes(path)
        self._tell = acknowledge
        self._watch = watch
        self._revision = 0
        self.programmed = 0
        """The newest revision that the kernel follows."""
        self._bridge = host_bridge(bridge_subnet)
        self._assigned: dict[NetworkId, OverlayWanted] = {}
        self._leaving: dict[NetworkId, OverlayWanted] = {}
        self._endpoints: dict[EndpointKey, EndpointWanted] = {}
        self._digest = 0
        """Of all endpoints: the exclusive or of theirs."""
        self._dirty: dict[EndpointKey, None] = {}
        """Endpoints that have changed since a sync last began."""
        self._anew = True
        """Something else has changed as well, or the kernel: then all is looked at."""
        self._pools: dict[NetworkId, Pool] = {}
        self._held: dict[TaskId, tuple[Address, ...]] = {}
        self._ports: dict[TaskId, tuple[PortConfig, ...]] = {}
        self._published: dict[TaskId, Published] = {}
        self._wanted = 0
        self._synced = 0
        self._changed = asyncio.Condition()
        self._load()

    def adopt(
        self, task_id: TaskId, addresses: tuple[Address, ...], ports: tuple[PortConfig, ...] = ()
    ) -> None:
        """Note the addresses and the host's ports that an adopted task has."""
        self._ports[task_id] = ports
        for address in addresses:
            if pool := self._pools.get(address.network_id):
                pool.take(address.address)
        self._held[task_id] = addresses

    async def assign(self, assigned: Assigned) -> None:
        """Take what the controller says: some networks and endpoints changed, some are gone; a full
        assignment names them all.
        """
        self._revision = assigned.revision
        full = assigned.full
        self._faults.forget(
            None if full else (*assigned.removed_overlays, *assigned.removed_endpoints)
        )
        named = {o.network_id: o for o in map(self._sound, assigned.overlays) if o is not None}
        gone = [n for n in self._assigned if n not in named] if full else assigned.removed_overlays
        anew = False
        for network_id in gone:
            if overlay := self._assigned.pop(network_id, None):
                self._leaving[network_id] = overlay
                anew = True
        for network_id, overlay in named.items():
            left = self._leaving.pop(network_id, None)
            anew |= left is not None or self._assigned.get(network_id) != overlay
            self._assigned[network_id] = overlay
            self._grant(network_id, overlay.local_blocks)
        changed = self._take_endpoints(assigned)
        if anew or changed:
            self._drop_unused()
            await self._want(anew=anew)
        if self._synced == self._wanted:
            self._acknowledge(self._revision, self._digest)

    def _take_endpoints(self, assigned: Assigned) -> bool:
        """Whether any has changed."""
        told = {e.key: e for e in assigned.endpoints if self._is_sound(e)}
        gone = list(assigned.removed_endpoints)
        if assigned.full:
            gone += (key for key in self._endpoints if key not in told)
        before = len(self._dirty), self._digest
        for key in gone:
            if (old := self._endpoints.pop(key, None)) is not None:
                self._digest ^= old.digest
                self._dirty[key] = None
        for key, endpoint in told.items():
            old = self._endpoints.get(key)
            if old == endpoint:
                continue
            self._digest ^= endpoint.digest ^ (old.digest if old else 0)
            self._endpoints[key] = endpoint
            self._dirty[key] = None
        return (len(self._dirty), self._digest) != before

    async def attach(
        self, task_id: TaskId, networks: Iterable[NetworkId], servers: Sequence[str] = ()
    ) -> Attached:
        """Give the task addresses, a network namespace and, on overlays, a resolver that asks
        `servers` what it does not know (none: the host's). A task that has them keeps them.

        Raises NetworkFailed: no address free, or the kernel refused.
        """
        wanted = _own_networks(networks)
        if wanted is None:
            return Attached()
        await self.ready(networks, is_new=not self._held.get(task_id))
        addresses = self._held.get(task_id) or self._allocate(task_id, wanted)
        path = await self._dataplane.attach(
            task_id,
            tuple(
                Attachment(network_id=a.network_id, address=a.address, ifname=f"eth{index}")
                for index, a in enumerate(addresses)
            ),
        )
        overlays = [network_id for network_id in wanted if network_id != HOST_BRIDGE]
        if overlays:
            await self._resolvers.open(task_id, overlays, servers)
        return self._attached(path, addresses, has_resolver=bool(overlays))

    async def ready(self, networks: Iterable[NetworkId], *, is_new: bool = True) -> None:
        """Return once a task may attach to these networks, or (not `is_new`) be mended there.

        Raises NetworkFailed: one is not assigned, this host cannot carry one, or the kernel does
        not follow in time.
        """
        wanted = _own_networks(networks) or ()
        for network_id in wanted:
            if network_id != HOST_BRIDGE and network_id not in self._assigned:
                told = self._faults.of(network_id)
                raise NetworkFailed(told or f"network {network_id} is not assigned to this node")
        try:
            async with asyncio.timeout(seconds(NETWORK_WAIT_MAX)):
                await self.settled()
        except TimeoutError:
            names = ", ".join(map(self._name, wanted)) or "none"
            waited = format_duration(NETWORK_WAIT_MAX)
            why = self._faults.trouble or "the kernel is still at work"
            raise NetworkFailed(f"networks ({names}) not ready after {waited}: {why}") from None
        for network_id in wanted if is_new else ():
            if reason := self._faults.of(network_id):
                raise NetworkFailed(reason)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What this host cannot do of its networks now."""
        return self._faults.now(_now())

    def claim(self, task_id: TaskId, ports: Iterable[PortConfig]) -> tuple[PortConfig, ...]:
        """The ports of mode host among these, with numbers of which the task is sure until it is
        detached; none if the task is on no network of its own (host, none). Raises NetworkFailed:
        no number is free, or the task has no way out.
        """
        if not self._held.get(task_id):
            return ()
        if not any(port.publish_mode is PublishMode.HOST for port in ports):
            self._ports[task_id] = ()
            return ()
        taken = {number(port) for held in self._ports.values() for port in held}
        taken |= {number(port) for e in self._endpoints.values() for port in e.ports}
        chosen = with_numbers(ports, taken)
        if chosen is None:
            raise NetworkFailed("every port of this host from 32768 to 60999 is published")
        if chosen and self._way_out(task_id) is None:
            raise NetworkFailed(
                "ports of mode host lead to no task that has only internal networks"
            )
        self._ports[task_id] = chosen
        return chosen

    async def publish(self, task_id: TaskId, ports: tuple[PortConfig, ...]) -> None:
        """Lead these ports of the host to the task, and no others; return once that is so."""
        address = self._way_out(task_id)
        if ports and address is not None:
            self._published[task_id] = Published(
                task_id=task_id, network_id=address.network_id, address=address.address, ports=ports
            )
        elif self._published.pop(task_id, None) is None:
            return
        await self._want()
        await self.settled()

    @property
    def published(self) -> frozenset[TaskId]:
        """The tasks that ports of this host lead to."""
        return frozenset(self._published)

    def _way_out(self, task_id: TaskId) -> Address | None:
        addresses = self._held.get(task_id, ())
        out = default_network([self._overlay(address.network_id) for address in addresses])
        return None if out is None else addresses[out]

    async def detach(self, task_id: TaskId) -> None:
        """Take namespace and addresses back; a task that has none is no error."""
        await self._resolvers.close(task_id)
        await self._dataplane.detach(task_id)
        self._ports.pop(task_id, None)
        withdrawn = self._published.pop(task_id, None)
        for address in self._held.pop(task_id, ()):
            if pool := self._pools.get(address.network_id):
                pool.release(address.address)
        if (self._leaving and self._drop_unused()) or withdrawn:
            await self._want()

    async def found(self) -> set[TaskId]:
        """The tasks that have a network namespace, whoever made it."""
        return await self._dataplane.found()

    async def settled(self) -> None:
        """Return once everything asked for so far is programmed."""
        target = self._wanted
        async with self._changed:
            await self._changed.wait_for(lambda: self._synced >= target)

    async def run(self) -> None:
        """Keep the kernel as wanted, for ever: after every change, and in between what others
        disturbed.
        """
        await self._want()
        drifts, saved = 0, 0
        while True:
            target, revision, digest = self._wanted, self._revision, self._digest
            anew, self._anew = self._anew, False
            changed, self._dirty = {key: self._endpoints.get(key) for key in self._dirty}, {}
            # Before the kernel follows: who returns after a kill must not want less than that.
            if anew and saved != target:
                overlays = (*self._assigned.values(), *self._leaving.values())
                self._wishes.save(overlays, self._published.values())
                saved = target
            self._wishes.save_endpoints(changed)
            began = asyncio.get_running_loop().time()
            try:
                faults = await (self._sync() if anew else self._update(changed))
            except NetworkFailed as error:
                _log.error("network.sync_failed", error=error)
                self._faults.failed(str(error))
                self._anew = True
                await asyncio.sleep(RETRY_S)
                continue
            carried = (*self._assigned, *self._leaving, HOST_BRIDGE) if anew else None
            for fault in self._faults.synced(faults, carried, _now()):
                _log.error("network.fault", network=fault.network_id, reason=fault.reason)
            if self._watch:
                self._watch.synced(asyncio.get_running_loop().time() - began)
                self._watch.healed(drifts)
            async with self._changed:
                self._synced = target
                self._changed.notify_all()
            if self._wanted == target:
                revision = self._revision  # what came meanwhile asked for nothing else
            if revision:
                self._acknowledge(revision, digest)
            drifts = await self._wait_for_work(target)

    async def _sync(self) -> tuple[Fault, ...]:
        """Have everything as it is wanted now."""
        overlays = (self._bridge, *self._assigned.values(), *self._leaving.values())
        endpoints = tuple(self._endpoints.values())
        self._resolvers.know(overlays, endpoints)
        return await self._dataplane.sync(overlays, endpoints, tuple(self._published.values()))

    async def _update(
        self, changed: Mapping[EndpointKey, EndpointWanted | None]
    ) -> tuple[Fault, ...]:
        """Have these endpoints as they are wanted now, and the rest as it is."""
        self._resolvers.change(changed)
        return await self._dataplane.update(changed)

    def _acknowledge(self, revision: int, digest: int) -> None:
        self.programmed = max(self.programmed, revision)
        self._tell(revision, digest)

    async def _wait_for_work(self, target: int) -> int:
        """Return when there is something to do: how much somebody has disturbed, if that is it."""
        while True:
            try:
                async with asyncio.timeout(REPAIR_PERIOD_S), self._changed:
                    await self._changed.wait_for(lambda: self._wanted > target)
                return 0
            except TimeoutError:
                pass
            try:
                drifts = await self._dataplane.check()
            except NetworkFailed as error:
                _log.warning("network.check_failed", error=error)
                self._anew = True
                return 0
            if drifts:
                self._anew = True
                for drift in drifts[:10]:
                    _log.warning("network.drift", kind=drift.kind, detail=drift.detail)
                return len(drifts)

    async def _want(self, *, anew: bool = True) -> None:
        self._anew |= anew
        self._wanted += 1  # before anything is awaited: what is synced now is not what is wanted
        async with self._changed:
            self._changed.notify_all()

    def _sound(self, overlay: OverlayWanted) -> OverlayWanted | None:
        kept, faults = sound(overlay, self._own_address)
        self._faults.told(overlay.network_id, faults)
        return kept

    def _is_sound(self, endpoint: EndpointWanted) -> bool:
        faults = sound_endpoint(endpoint)
        self._faults.told(endpoint.key, faults)
        return not faults

    def _allocate(self, task_id: TaskId, networks: tuple[NetworkId, ...]) -> tuple[Address, ...]:
        addresses: list[Address] = []
        self._held[task_id] = ()
        for network_id in networks:
            found = self._pool(network_id).allocate()
            if isinstance(found, Exhausted):
                for address in addresses:
                    self._pool(address.network_id).release(address.address)
                raise NetworkFailed(f"network {self._name(network_id)}: {found}")
            addresses.append(Address(network_id=network_id, address=found))
        self._held[task_id] = tuple(addresses)
        return self._held[task_id]

    def _attached(
        self, path: str, addresses: tuple[Address, ...], *, has_resolver: bool
    ) -> Attached:
        own: list[str] = []
        ways: list[str] = []
        for held in addresses:
            overlay = self._overlay(held.network_id)
            own.append(held.address)
            if overlay is None:
                continue
            if overlay.subnet6:
                own.append(address6(overlay.subnet, overlay.subnet6, held.address))
            ways += (
                overlay.gateway or gateway(block)
                for block in overlay.local_blocks
                if IPv4Address(held.address) in IPv4Network(block)
            )
        return Attached(
            netns_path=path,
            addresses=addresses,
            own=tuple(own),
            gateway=ways[0] if ways else "127.0.0.1",
            has_resolver=has_resolver,
        )

    def _overlay(self, network_id: NetworkId) -> OverlayWanted | None:
        if network_id == HOST_BRIDGE:
            return self._bridge
        return self._assigned.get(network_id) or self._leaving.get(network_id)

    def _name(self, network_id: NetworkId) -> str:
        overlay = self._assigned.get(network_id)
        return overlay.name if overlay else str(network_id)

    def _grant(self, network_id: NetworkId, blocks: tuple[str, ...]) -> None:
        known = network_id in self._pools
        pool = self._pool(network_id)
        pool.extend(blocks)
        if not known:
            # A power loss takes what is known of networks, but not which addresses tasks had.
            for address in chain.from_iterable(self._held.values()):
                if address.network_id == network_id:
                    pool.take(address.address)

    def _pool(self, network_id: NetworkId) -> Pool:
        pool = self._pools.get(network_id)
        if pool is None:
            pool = self._pools[network_id] = Pool()
        return pool

    def _drop_unused(self) -> bool:
        unused = [n for n in self._leaving if not self._pool(n).used]
        for network_id in unused:
            del self._leaving[network_id]
            del self._pools[network_id]
        return bool(unused)

    def _load(self) -> None:
        self._pool(HOST_BRIDGE).extend(self._bridge.local_blocks)
        kept = self._wishes.load()
        for endpoint in filter(self._is_sound, kept.endpoints):
            self._endpoints[endpoint.key] = endpoint
            self._digest ^= endpoint.digest
            self._dirty[endpoint.key] = None
        self._published.update((task.task_id, task) for task in kept.published)
        for overlay in filter(None, map(self._sound, kept.overlays)):
            self._assigned[overlay.network_id] = overlay
            self._pool(overlay.network_id).extend(overlay.local_blocks)
