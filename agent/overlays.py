"""The networks this host carries, and who has which address on them. SHELL over `Dataplane` and the
pools.

The wish is what the controller assigned, plus networks it withdrew that local tasks are still
attached to. It is kept in a file, so that a restarted agent restores the same network before, and
without, any controller; a power loss, which leaves no task running, may take it.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from ipaddress import IPv4Address, IPv4Network
from itertools import chain
from operator import xor
from pathlib import Path

import msgspec

from agent.faults import Faults
from agent.network.base import (
    HOST_BRIDGE,
    HOST_NETWORK,
    NO_NETWORK,
    Attachment,
    Dataplane,
    EndpointKey,
    EndpointWanted,
    Fault,
    NetworkFailed,
    OverlayWanted,
    Published,
    Resolvers,
    host_bridge,
)
from agent.network.ipam import Exhausted, Pool, gateway
from agent.network.plug import way_out
from agent.session.assigned import Assigned
from agent.session.sound import sound, sound_endpoint
from agent.stopwatch import NetworkWatch
from agent.tasks.hostports import number, with_numbers
from pyswarm_core.addresses import address6
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import SECOND, Instant, seconds
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.limits import NETWORK_WAIT_MAX
from pyswarm_core.objects import Address
from pyswarm_core.specs import PortConfig
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


class _Saved(msgspec.Struct, frozen=True):
    overlays: tuple[OverlayWanted, ...]
    endpoints: tuple[EndpointWanted, ...] = ()
    published: tuple[Published, ...] = ()


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
        self._path = path
        self._tell = acknowledge
        self._watch = watch
        self._revision = 0
        self.programmed = 0
        """The newest revision that the kernel follows."""
        self._bridge = host_bridge(bridge_subnet)
        self._assigned: dict[NetworkId, OverlayWanted] = {}
        self._leaving: dict[NetworkId, OverlayWanted] = {}
        self._endpoints: dict[EndpointKey, EndpointWanted] = {}
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
        before = dict(self._assigned), dict(self._endpoints)
        self._revision = assigned.revision
        full = assigned.full
        self._faults.forget(
            None if full else (*assigned.removed_overlays, *assigned.removed_endpoints)
        )
        named = {o.network_id: o for o in map(self._sound, assigned.overlays) if o is not None}
        gone = [n for n in self._assigned if n not in named] if full else assigned.removed_overlays
        for network_id in gone:
            if overlay := self._assigned.pop(network_id, None):
                self._leaving[network_id] = overlay
        for network_id, overlay in named.items():
            self._leaving.pop(network_id, None)
            self._assigned[network_id] = overlay
            self._grant(network_id, overlay.local_blocks)
        if full:
            self._endpoints.clear()
        for key in assigned.removed_endpoints:
            self._endpoints.pop(key, None)
        self._endpoints.update((e.key, e) for e in assigned.endpoints if self._is_sound(e))
        if (self._assigned, self._endpoints) != before:
            self._drop_unused()
            await self._want()
        if self._synced == self._wanted:
            self._acknowledge(self._revision, self._endpoints.values())

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
        known = {**self._leaving, **self._assigned, HOST_BRIDGE: self._bridge}
        out = way_out([known.get(address.network_id) for address in addresses])
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
            target, revision = self._wanted, self._revision
            if saved != target:
                # Before the kernel follows: who returns after a kill must not want less than that.
                self._save()
                saved = target
            overlays = (self._bridge, *self._assigned.values(), *self._leaving.values())
            endpoints = tuple(self._endpoints.values())
            self._resolvers.know(overlays, endpoints)
            began = asyncio.get_running_loop().time()
            try:
                published = tuple(self._published.values())
                faults = await self._dataplane.sync(overlays, endpoints, published)
            except NetworkFailed as error:
                _log.error("network.sync_failed", error=error)
                self._faults.failed(str(error))
                await asyncio.sleep(RETRY_S)
                continue
            carried = [overlay.network_id for overlay in overlays]
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
                self._acknowledge(revision, endpoints)
            drifts = await self._wait_for_work(target)

    def _acknowledge(self, revision: int, endpoints: Iterable[EndpointWanted]) -> None:
        self.programmed = max(self.programmed, revision)
        self._tell(revision, reduce(xor, (endpoint.digest for endpoint in endpoints), 0))

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
                return 0
            if drifts:
                for drift in drifts[:10]:
                    _log.warning("network.drift", kind=drift.kind, detail=drift.detail)
                return len(drifts)

    async def _want(self) -> None:
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
        if not self._path.exists():
            return
        try:
            saved = msgspec.json.decode(self._path.read_bytes(), type=_Saved)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.error("network.unreadable", path=self._path, error=error)
            return
        self._endpoints.update((endpoint.key, endpoint) for endpoint in saved.endpoints)
        self._published.update((task.task_id, task) for task in saved.published)
        for overlay in filter(None, map(self._sound, saved.overlays)):
            self._assigned[overlay.network_id] = overlay
            self._pool(overlay.network_id).extend(overlay.local_blocks)

    def _save(self) -> None:
        fresh = self._path.with_suffix(".new")
        overlays = (*self._assigned.values(), *self._leaving.values())
        wish = _Saved(overlays, tuple(self._endpoints.values()), tuple(self._published.values()))
        try:
            fresh.write_bytes(msgspec.json.encode(wish))
            fresh.replace(self._path)
        except OSError as error:
            _log.error("network.save_failed", error=error)
