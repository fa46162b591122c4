"""The real Dataplane: the kernel of the namespace the agent runs in. SHELL.

Reads, has plan.py compare, carries out. Work that enters the kernel runs in a pool of threads,
because making a namespace and waiting for the kernel's network lock take milliseconds. Invariant:
`sync` and `check` exclude each other; attaching and detaching go on beside them.
"""

import asyncio
import re
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from agent.network import kernel, message, plan, refusal
from agent.network.base import (
    HOST_BRIDGE,
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
from agent.network.encryption.sealer import Encryption
from agent.network.filter import flows
from agent.network.filter.bypass import Bypass
from agent.network.filter.host import host_table, part_of, spares
from agent.network.filter.keeper import Keeper
from agent.network.filter.shortcut import shortcuts
from agent.network.filter.table import Table
from agent.network.names import Names
from agent.network.netlink import Netlink, nft_generation
from agent.network.netns import Namespaces
from agent.network.paths import LOOK_PERIOD_S, Paths, answers
from agent.network.plug import Plug, plugs
from agent.network.state import KernelState
from agent.network.trace import look, way
from agent.network.vips.programs import Programs
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.objects import Capability
from pyswarm_core.traces import Check, RulesFact

T = TypeVar("T")

_log = EventLog("agent.dataplane")

_TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_THREADS = 8


class KernelDataplane:
    """Carries networks and tasks in the current network namespace.

    Close it when done; what it made stays.
    """

    def __init__(self, fleet: str, underlay: Underlay, netns_directory: Path) -> None:
        """`fleet` is one to five letters and digits, unique on the machine.

        The directory is ours alone.
        """
        self._names = Names(fleet)
        self._underlay = underlay
        self._namespaces = Namespaces(netns_directory)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="dataplane")
        self._local = threading.local()
        self._sockets: list[Netlink] = []
        self._lock = asyncio.Lock()
        self._overlays: dict[NetworkId, OverlayWanted] = {}
        self._endpoints: dict[EndpointKey, EndpointWanted] = {}
        self._published: tuple[Published, ...] = ()
        self._underlay_mtu = 0
        self._six = not kernel.lacks_ipv6()
        """Whether the kernel may hold anything of IPv6 that is ours."""
        self._tasks: dict[TaskId, tuple[Plug, ...]] = {}
        self._programs = Programs()
        self._host_is_synced = False
        self._udp_ways: dict[int, frozenset[str]] = {}
        self._encryption = Encryption(self._names)
        self._refused: dict[NetworkId, str] = {}
        """Networks that this host cannot carry, and why."""
        self._set_aside: list[OverlayWanted] = []
        self._kernel_faults: tuple[Fault, ...] = ()
        self._paths = Paths(self._carries)
        generation = partial(self._run, nft_generation)
        self._filter = Keeper(self._names.table, generation, spares=spares)
        self._bypass = Bypass(self._names.table, generation)

    def close(self) -> None:
        """Stop the threads and close the sockets. The kernel keeps what it has."""
        self._pool.shutdown()
        for host in self._sockets:
            host.close()
        self._programs.close()
        self._namespaces.close()

    async def sync(
        self,
        overlays: Sequence[OverlayWanted],
        endpoints: Sequence[EndpointWanted] = (),
        published: Sequence[Published] = (),
    ) -> tuple[Fault, ...]:
        """Make the host's networks exactly these; see Dataplane."""
        async with self._lock:
            wanted = overlays
            overlays = await self._carried(overlays)
            before = self._overlays, self._published, self._endpoints
            self._overlays = {overlay.network_id: overlay for overlay in overlays}
            self._endpoints = {endpoint.key: endpoint for endpoint in endpoints}
            self._published = tuple(published)
            self._programs.want(self._overlays, endpoints)
            table = host_table(overlays, endpoints, published, self._names, self._underlay)
            # Rules first, so that no packet passes unruled; when all is removed, rules last.
            if table is not None:
                await self._filter.sync(table)
                await self._run(self._forget_flows)
            # Reading the whole host takes longer than programming a service everywhere: who changes
            # endpoints alone does not wait for it, and the next check heals whatever else.
            same_host = before[:2] == (self._overlays, self._published)
            if not (same_host and before[2] != self._endpoints and self._host_is_synced):
                self._host_is_synced = False
                self._kernel_faults = await self._run(self._sync_kernel)
                await self._sync_shortcuts()
                self._host_is_synced = True
            if table is None:
                await self._filter.sync(None)
            tasks = await self._run(self._programs.sync)
            return refusal.gathered(
                wanted, self._refused, self._kernel_faults, self._filter.refused, tasks
            )

    async def update(
        self, changed: Mapping[EndpointKey, EndpointWanted | None]
    ) -> tuple[Fault, ...]:
        """Make these endpoints what they are now; see Dataplane."""
        async with self._lock:
            before = [old for key in changed if (old := self._endpoints.pop(key, None))]
            now = [endpoint for endpoint in changed.values() if endpoint is not None]
            self._endpoints.update((endpoint.key, endpoint) for endpoint in now)
            networks = self._programs.change(self._overlays, changed)
            if any(endpoint.ports for endpoint in (*before, *now)):
                parts = [part_of(self._overlays, endpoints) for endpoints in (before, now)]
                if not await self._filter.patch(*parts):
                    overlays, endpoints = [*self._overlays.values()], [*self._endpoints.values()]
                    table = host_table(
                        overlays, endpoints, self._published, self._names, self._underlay
                    )
                    await self._filter.sync(table)
                await self._run(lambda: self._forget_flows_of(before, now))
            tasks = await self._run(lambda: self._programs.sync(networks))
            return refusal.gathered(
                self._overlays.values(), self._refused, self._kernel_faults, self._filter.refused,
                tasks,
            )  # fmt: skip

    async def attach(self, task_id: TaskId, attachments: Sequence[Attachment]) -> str:
        """Make or mend the task's network namespace; see Dataplane."""
        if not _TASK_ID.fullmatch(task_id):
            raise NetworkFailed(f"task id {task_id!r} cannot name a file")
        for attachment in attachments:
            if lack := self._refused.get(attachment.network_id):
                raise NetworkFailed(lack)
        wiring = plugs(task_id, attachments, self._overlays, self._names, self._underlay_mtu)
        networks = tuple(a.network_id for a in attachments if a.network_id != HOST_BRIDGE)
        plugged = await self._run(lambda: self._attach(task_id, wiring, networks))
        self._tasks[task_id] = wiring
        self._bypass.moved(wiring)
        if self._bypass.knows(plugged):
            async with self._lock:
                self._bypass.distrust()
                await self._sync_shortcuts()
        return str(self._namespaces.path(task_id))

    async def detach(self, task_id: TaskId) -> None:
        """Let go of the task's namespace; see Dataplane."""
        wiring = self._tasks.pop(task_id, ())
        self._bypass.moved(wiring)
        if _TASK_ID.fullmatch(task_id):
            await self._run(lambda: self._detach(task_id, wiring))

    async def found(self) -> set[TaskId]:
        """The tasks whose namespaces exist."""
        return set(map(TaskId, await self._run(self._namespaces.found)))

    async def check(self) -> tuple[Drift, ...]:
        """What differs from the last sync; see Dataplane."""
        async with self._lock:
            _, changes = await self._run(self._compare)
            drifts = plan.drifts(changes) + await self._run(self._unsealed)
            if self._set_aside:
                drifts += await self._run(self._carriable)
            self._host_is_synced &= not drifts
            if await self._filter.differs():
                drifts += (Drift(kind="rules", detail=self._names.table),)
            if await self._bypass.differs():
                # Only a sync that looks at the whole host writes them.
                self._host_is_synced = False
                drifts += (Drift(kind="rules", detail=f"netdev {self._names.table}"),)
            disturbed = await self._run(self._programs.disturbed)
            return drifts + tuple(Drift(kind="rules", detail=f"task {task}") for task in disturbed)

    async def tend_paths(self) -> None:
        """Measure for ever how large packets other hosts get."""
        while True:
            try:
                await self.measure_paths()
            except NetworkFailed as error:
                _log.warning("network.paths_unknown", error=error)
            await asyncio.sleep(LOOK_PERIOD_S)

    async def tend_shortcuts(self) -> None:
        """Give tasks short ways of their own for ever."""
        while True:
            try:
                await self.give_shortcuts()
            except (NetworkFailed, OSError) as error:
                _log.warning("network.shortcuts_unknown", error=error)

    async def give_shortcuts(self) -> None:
        """Wait for tasks to come or go, and for peace; then write the short ways. Raises
        NetworkFailed.
        """
        await self._bypass.peace()
        async with self._lock:
            await self._sync_shortcuts()
            await self._bypass.remember()

    async def measure_paths(self) -> None:
        """Ask those peers whose turn it is; where full packets are lost, routes say how large they
        may be, so that tasks are told instead. Raises NetworkFailed.
        """
        async with self._lock:  # nothing is known of the host's own device before networks are made
            peers = {p.address: None for o in self._overlays.values() for p in o.peers if o.vni}
            most = self._underlay_mtu
        if most and await self._paths.measure(peers, most):
            async with self._lock:
                await self._run(self._sync_devices)
                await self._sync_shortcuts()

    async def _carries(self, address: str, size: int) -> bool:
        return await self._run(lambda: answers(self._underlay.address, address, size))

    def path_mtus(self) -> dict[str, int]:
        """By address of a peer, the largest packet that gets there."""
        return self._paths.measured

    def worn_key(self) -> int:
        """The number of the key that encrypted networks need a new one for; 0 if they do not."""
        return ipsec.worn_key(self._overlays.values(), self._encryption.sent)

    async def addresses6(self) -> tuple[str, ...]:
        """The host's own addresses of IPv6."""
        return await self._run(lambda: kernel.own_addresses6(self._host(), self._names))

    async def lacks(self) -> dict[Capability, str]:
        """What this host's kernel has not, and a line for people on each."""
        return await self._run(lambda: self._lacking(Capability))

    async def look(
        self, task_id: TaskId, network_id: NetworkId, address: str
    ) -> tuple[tuple[Check, ...], int]:
        """How a task's way to an address over a network is, against how it should be; and the
        largest packet that the task may send. Raises NetworkFailed if it has no such way.
        """
        async with self._lock:
            disturbed = await self._filter.differs()
            seen = await self._run(lambda: self._seen(task_id, network_id, address, disturbed))
        return way.checks(seen, self._names), seen.plug.inside.mtu

    async def look_at_rules(self, task_id: TaskId, address: str) -> RulesFact | None:
        """What the kernel's rules in the task's namespace say of a virtual address."""
        return await self._run(lambda: self._programs.look(task_id, address))

    async def dropping(self) -> tuple[str, ...]:
        """Others' chains that drop what this host forwards, unless something accepts it."""
        return await self._run(lambda: look.dropping(self._names))

    def dropped(self, counter: str) -> int:
        """How many packets one of the filter's counters (SPOOFED, UNSEALED) has seen; to be asked
        by any thread of the host's namespace.
        """
        return flows.count(self._names.table, counter)

    async def _carried(self, overlays: Sequence[OverlayWanted]) -> Sequence[OverlayWanted]:
        """Those that this host can carry: of the others it gets no device at all."""
        new = [o for o in overlays if o.network_id not in self._overlays or refusal.needed([o])]
        self._refused = await self._run(lambda: self._refusals(new)) if new else {}
        self._set_aside = [o for o in new if o.network_id in self._refused]
        return [overlay for overlay in overlays if overlay.network_id not in self._refused]

    def _refusals(self, overlays: Sequence[OverlayWanted]) -> dict[NetworkId, str]:
        """Why this host cannot carry some of these."""
        needed = refusal.needed(overlays)
        if Capability.IPV6 in needed and not self._underlay_mtu:
            devices = kernel.Devices(self._host())
            self._underlay_mtu = devices.mtu_of(self._underlay.address)
        refused = refusal.refusals(overlays, self._lacking(needed), self._underlay_mtu)
        for overlay in overlays:
            # Of one that is here already, tasks would lose what they have.
            is_new = overlay.vni and overlay.network_id not in self._overlays
            if is_new and (way := kernel.overlapped(self._names, overlay)):
                refused[overlay.network_id] = (
                    f"network {overlay.name} ({overlay.subnet}) overlaps a route of this host"
                    f" ({way}): make it with another --subnet, or change the route"
                )
        return refused

    def _lacking(self, needed: Iterable[Capability]) -> dict[Capability, str]:
        asked = {Capability.ESP: self._encryption.lack, Capability.IPV6: kernel.lacks_ipv6}
        return {capability: lack for capability in needed if (lack := asked[capability]())}

    def _carriable(self) -> tuple[Drift, ...]:
        refused = self._refusals(self._set_aside)
        free = [o.name for o in self._set_aside if o.network_id not in refused]
        return tuple(
            Drift(kind="link", detail=f"network {name} can be carried now") for name in free
        )

    def _unsealed(self) -> tuple[Drift, ...]:
        return ipsec.drifts(self._encryption.compare(self._sealing()))

    def _sealing(self) -> ipsec.Sealing:
        return ipsec.wanted(self._overlays.values(), self._names, self._underlay)

    def _forget_flows(self) -> None:
        ways = flows.udp_ways(self._overlays, self._endpoints.values(), self._published)
        flows.forget_stale(self._udp_ways, ways, self._overlays.values())
        self._udp_ways = dict(ways)

    def _forget_flows_of(
        self, before: Sequence[EndpointWanted], now: Sequence[EndpointWanted]
    ) -> None:
        old, new = (flows.udp_ways(self._overlays, part, ()) for part in (before, now))
        flows.forget_stale(old, new, self._overlays.values())
        for port in old:
            self._udp_ways.pop(port, None)
        self._udp_ways.update(new)

    def _seen(
        self, task_id: TaskId, network_id: NetworkId, address: str, disturbed: bool
    ) -> way.Seen:
        names, overlay = self._names, self._overlays.get(network_id)
        bridge = names.bridge(network_id)
        plug = next((p for p in self._tasks.get(task_id, ()) if p.bridge == bridge), None)
        if overlay is None or plug is None:
            raise NetworkFailed(f"task {task_id} is not on network {network_id} here")
        host = self._host()
        devices = kernel.Devices(host)
        want, found = self._states(devices)
        by_index = {index: link.name for index, link in devices.links.items()}
        other = bridge if way.is_local(overlay, address) else names.vxlan(network_id)
        with self._namespaces.inside(task_id) as inside:
            held = look.inside(inside, address)
        return way.Seen(
            address=address, overlay=overlay, plug=plug, want=want, found=found, inside=held,
            links={link.name: link for link in devices.links.values()},
            route=look.choice(host, by_index, address),
            paired=look.paired(names, (bridge, other)), disturbed=disturbed,
            unsealed=tuple(drift.detail for drift in self._unsealed()),
        )  # fmt: skip

    def _compare(self) -> tuple[KernelState, plan.Changes]:
        want, found = self._states(kernel.Devices(self._host()))
        return want, plan.difference(want, found)

    def _states(self, devices: kernel.Devices) -> tuple[KernelState, KernelState]:
        """What is wanted, and what is there."""
        if self._overlays:
            self._underlay_mtu = devices.mtu_of(self._underlay.address)
        wirings = list(self._tasks.values())
        ports = {plug.port.name: plug.bridge for wiring in wirings for plug in wiring}
        behind = [task for wiring in wirings for plug in wiring for task in plug.neighbours]
        want = plan.wanted(
            list(self._overlays.values()), self._names, self._underlay, self._underlay_mtu, ports,
            behind_ports=behind, published={task.network_id for task in self._published},
            paths=self._paths.measured,
        )  # fmt: skip
        # What is left of the last dual-stack network, perhaps another agent's, is found as well.
        self._six |= plan.FORWARDING6 in want.settings
        found = kernel.find(self._host(), devices, self._names, want.settings, ports, six=self._six)
        return want, found

    def _sync_kernel(self) -> tuple[Fault, ...]:
        """What could not be made. Raises NetworkFailed for what concerns the host as a whole."""
        overlays = self._overlays.values()
        try:
            unsealed = self._encryption.sync(self._sealing())
        finally:
            refused = self._sync_devices()
        return refusal.of_seals(overlays, unsealed) + refusal.of_kernel(
            overlays, self._names, refused
        )

    async def _sync_shortcuts(self) -> None:
        await self._filter.remember()
        await self._bypass.sync(self._plugs_there, self._shortcuts)

    def _plugs_there(self) -> list[Plug]:
        there = {name for _, name in socket.if_nameindex()}
        return [p for wiring in self._tasks.values() for p in wiring if p.port.name in there]

    def _shortcuts(self, plugs: Sequence[Plug]) -> Table | None:
        overlays, paths = list(self._overlays.values()), self._paths.measured
        return shortcuts(overlays, self._names, self._underlay_mtu, paths, plugs)

    def _sync_devices(self) -> list[plan.Refusal]:
        refused: list[plan.Refusal] = []
        want, changes = self._compare()
        if changes.drop_links or changes.make_links or changes.lost_ports:
            self._bypass.distrust()
        if changes != plan.Changes():
            bridges = {self._names.bridge(o.network_id): o for o in self._overlays.values()}
            tunnels = {self._names.vxlan(o.network_id): o for o in self._overlays.values()}
            aliases = {
                name: f"pyswarm network {overlay.name} {overlay.network_id}"
                for name, overlay in (bridges | tunnels).items()
            }
            refused = kernel.carry_out(self._host(), changes, want, aliases)
        self._six = plan.FORWARDING6 in want.settings
        for task_id, wiring in list(self._tasks.items()):
            if any(plug.port.name in changes.lost_ports for plug in wiring):
                refused += self._mend_unless_detached(task_id, wiring)
        return refused

    def _attach(
        self, task_id: TaskId, wiring: tuple[Plug, ...], networks: tuple[NetworkId, ...]
    ) -> Sequence[Plug]:
        """The plugs that had to be made."""
        spaces = self._namespaces
        if spaces.exists(task_id):
            made = self._mend(task_id, wiring)
            self._programs.adopt(task_id, networks, lambda: spaces.netfilter_of(task_id))
            return made
        # The kernel removes a namespace some time after its last use, and its pairs with it; those
        # of an earlier attempt at this task would be in the way.
        left = [message.drop_link_named(plug.port.name) for plug in wiring]
        self._host().apply(left, gone_is_fine=True)
        six = any(plug.six is not None for plug in wiring)
        with spaces.new(six=six) as (descriptor, inside):
            kernel.plug(self._host(), wiring, inside, spaces.host)
            with self._programs.new(task_id, networks, lambda: spaces.netfilter(descriptor)):
                spaces.keep(task_id, descriptor)
        return wiring

    def _detach(self, task_id: TaskId, wiring: tuple[Plug, ...]) -> None:
        # A namespace may outlive its file by long; it must not answer for who has its address next.
        down = [message.down(plug.port.name) for plug in wiring]
        self._host().apply(down, gone_is_fine=True)
        self._namespaces.drop(task_id)
        self._programs.forget(task_id)

    def _mend_unless_detached(
        self, task_id: TaskId, wiring: tuple[Plug, ...]
    ) -> list[plan.Refusal]:
        try:
            self._mend(task_id, wiring)
        except (NetworkFailed, OSError) as error:
            if task_id in self._tasks:
                return [plan.Refusal(p.bridge, p.port, f"task {task_id}: {error}") for p in wiring]
        return []

    def _mend(self, task_id: TaskId, wiring: tuple[Plug, ...]) -> Sequence[Plug]:
        host = self._host()
        if lost := [plug for plug in wiring if not kernel.is_plugged(host, plug)]:
            with self._namespaces.inside(task_id) as inside:
                kernel.plug(host, lost, inside, self._namespaces.host)
        return lost

    def _host(self) -> Netlink:
        """This thread's socket in the host's namespace."""
        host: Netlink | None = getattr(self._local, "host", None)
        if host is None:
            host = self._local.host = Netlink()
            self._sockets.append(host)
        return host

    async def _run(self, work: Callable[[], T]) -> T:
        """Run in a thread.

        A cancelled caller waits for the end, so that nothing goes on behind its back.
        """
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise
        except OSError as error:
            raise NetworkFailed(f"the node's network cannot be changed: {error}") from error
