"""The real `Overlay`: the kernel of the namespace that the agent runs in. SHELL.

It reads the kernel's state, compares it by plan.py and ipsec.py, and applies the difference.
Attaching and detaching run concurrently with `sync`.
"""

import re
import socket
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from agent.network import message
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
from agent.network.encryption.kernel import Encryption
from agent.network.names import Names
from agent.network.netns import Namespaces
from agent.network.overlay import devices, plan, refusal, shaping
from agent.network.overlay.base import AttachedTask
from agent.network.overlay.plug import Plug, plugs, rerouted
from agent.network.state import KernelState
from agent.network.threads import KernelThreads
from agent.network.vips.base import InNamespace
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.states import NETWORK_CAPABILITIES, Capability

_TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class KernelOverlay:
    """Carries networks and tasks in the current network namespace. Close it when done; the kernel's
    state stays.
    """

    def __init__(
        self,
        threads: KernelThreads,
        names: Names,
        underlay: Underlay,
        netns_directory: Path,
        *,
        fast_path: bool,
    ) -> None:
        """`netns_directory` belongs to this object alone. `fast_path`: the host needs neighbour
        entries for its tasks.
        """
        self._threads = threads
        self._names = names
        self._underlay = underlay
        self._fast_path = fast_path
        self.namespaces = Namespaces(netns_directory)
        self._carried: dict[NetworkId, DesiredOverlay] = {}
        self._refused: dict[NetworkId, str] = {}
        self._set_aside: list[DesiredOverlay] = []
        self._underlay_mtu = 0
        self._devices_made = 0
        self._published: frozenset[NetworkId] = frozenset()
        self._paths: Mapping[str, int] = {}
        self._six = not devices.lacks_ipv6()
        """Whether the kernel may hold IPv6 state of the fleet."""
        self._tasks: dict[TaskId, tuple[Plug, ...]] = {}
        self._encryption = Encryption(names)
        self._one_at_a_time = threading.Lock()
        """Held while interfaces in an existing namespace are made or removed."""

    def close(self) -> None:
        """Close the descriptor of the host's namespace. The kernel's state stays."""
        self.namespaces.close()

    @property
    def carried(self) -> Mapping[NetworkId, DesiredOverlay]:
        """See Overlay."""
        return self._carried

    @property
    def refused(self) -> Mapping[NetworkId, str]:
        """See Overlay."""
        return self._refused

    @property
    def underlay_mtu(self) -> int:
        """See Overlay."""
        return self._underlay_mtu

    @property
    def devices_made(self) -> int:
        """See Overlay."""
        return self._devices_made

    def plugs(self) -> list[Plug]:
        """See Overlay."""
        there = {name for _, name in socket.if_nameindex()}
        return [p for wiring in self._tasks.values() for p in wiring if p.port.name in there]

    def plugs_of(self, task_id: TaskId) -> tuple[Plug, ...]:
        """See Overlay."""
        return self._tasks.get(task_id, ())

    async def set_desired(self, overlays: Sequence[DesiredOverlay]) -> None:
        """See Overlay. A network that the host cannot carry gets no device at all."""
        new = [o for o in overlays if o.network_id not in self._carried or refusal.needed([o])]
        self._refused = await self._threads.run(lambda: self._refusals(new)) if new else {}
        self._set_aside = [o for o in new if o.network_id in self._refused]
        self._carried = {o.network_id: o for o in overlays if o.network_id not in self._refused}

    async def sync(
        self, published: Collection[NetworkId], paths: Mapping[str, int]
    ) -> tuple[Fault, ...]:
        """See Overlay."""
        self._published, self._paths = frozenset(published), dict(paths)
        return await self._threads.run(self._sync)

    async def check(self) -> tuple[Drift, ...]:
        """See Overlay."""
        drifts = plan.drifts(await self._threads.run(self._differences))
        drifts += await self._threads.run(self.unencrypted)
        return drifts + (await self._threads.run(self._now_carriable) if self._set_aside else ())

    async def attach(
        self,
        task_id: TaskId,
        attachments: Sequence[Attachment],
        inside: InNamespace,
        gone: Sequence[NetworkId] = (),
    ) -> AttachedTask:
        """See Overlay."""
        if not _TASK_ID.fullmatch(task_id):
            raise NetworkFailed(f"task id {task_id!r} is not valid as a file name")
        for attachment in attachments:
            if lack := self._refused.get(attachment.network_id):
                raise NetworkFailed(lack)
        wiring = plugs(
            task_id, attachments, self._carried, self._names, self._underlay_mtu,
            fast_path=self._fast_path,
        )  # fmt: skip
        networks = tuple(a.network_id for a in attachments if a.network_id != HOST_BRIDGE)
        change = self._rewiring(task_id, wiring, gone)
        if task_id in self._tasks:  # a concurrent sync repairs no interface that is removed
            self._tasks[task_id] = change.kept
        made = await self._threads.run(
            lambda: self._attach(task_id, wiring, change, networks, inside)
        )
        self._tasks[task_id] = wiring
        return AttachedTask(str(self.namespaces.path(task_id)), wiring, made)

    async def limit(self, task_id: TaskId, bandwidth: Bandwidth) -> None:
        """See Overlay."""
        before = self._tasks[task_id]
        wiring = tuple(replace(plug, bandwidth=bandwidth) for plug in before)
        await self._threads.run(lambda: self._limit(task_id, before, wiring))
        if task_id in self._tasks:
            self._tasks[task_id] = wiring

    async def detach(self, task_id: TaskId, inside: InNamespace) -> None:
        """See Overlay."""
        wiring = self._tasks.pop(task_id, ())
        if _TASK_ID.fullmatch(task_id):
            await self._threads.run(lambda: self._detach(task_id, wiring, inside))

    async def found(self) -> set[TaskId]:
        """See Overlay."""
        return set(map(TaskId, await self._threads.run(self.namespaces.found)))

    async def missing_capabilities(self) -> Mapping[Capability, str]:
        """See Overlay."""
        return await self._threads.run(lambda: self._missing_capabilities(NETWORK_CAPABILITIES))

    async def addresses6(self) -> tuple[str, ...]:
        """See Overlay."""
        host = self._threads.host
        return await self._threads.run(lambda: devices.own_addresses6(host(), self._names))

    def worn_key(self) -> int:
        """See Overlay."""
        return ipsec.worn_key(self._carried.values(), self._encryption.sent)

    def states(self, found: devices.Devices) -> tuple[KernelState, KernelState]:
        """The desired and the actual state. In a pool thread."""
        if self._carried:
            self._underlay_mtu = found.mtu_of(self._underlay.address)
        wirings = list(self._tasks.values())
        ports = {plug.port.name: plug.bridge for wiring in wirings for plug in wiring}
        behind = [task for wiring in wirings for plug in wiring for task in plug.neighbours]
        desired = plan.desired_state(
            list(self._carried.values()), self._names, self._underlay, self._underlay_mtu, ports,
            behind_ports=behind, published=self._published, paths=self._paths,
        )  # fmt: skip
        # State of the last dual-stack network, perhaps an earlier agent's, is read as well.
        self._six |= plan.FORWARDING6 in desired.settings
        host = self._threads.host()
        return desired, devices.read_state(
            host, found, self._names, desired.settings, ports, six=self._six
        )

    def _refusals(self, overlays: Sequence[DesiredOverlay]) -> dict[NetworkId, str]:
        """The networks among these that this host cannot carry, and why."""
        needed = refusal.needed(overlays)
        if Capability.IPV6 in needed and not self._underlay_mtu:
            found = devices.Devices(self._threads.host())
            self._underlay_mtu = found.mtu_of(self._underlay.address)
        refused = refusal.refusals(overlays, self._missing_capabilities(needed), self._underlay_mtu)
        for overlay in overlays:
            # A network that is carried already is kept: its tasks would lose their connections.
            is_new = overlay.vni and overlay.network_id not in self._carried
            if is_new and (route := devices.overlapping_route(self._names, overlay)):
                refused[overlay.network_id] = (
                    f"network {overlay.name} ({overlay.subnet}) overlaps a route of this host"
                    f" ({route}): create it with another --subnet, or change the route"
                )
        return refused

    def _missing_capabilities(self, needed: Iterable[Capability]) -> dict[Capability, str]:
        asked: dict[Capability, Callable[[], str]] = {
            Capability.ESP: self._encryption.lacks_esp, Capability.IPV6: devices.lacks_ipv6
        }  # fmt: skip
        return {capability: lack for capability in needed if (lack := asked[capability]())}

    def _now_carriable(self) -> tuple[Drift, ...]:
        refused = self._refusals(self._set_aside)
        free = [o.name for o in self._set_aside if o.network_id not in refused]
        return tuple(Drift(kind="link", detail=f"network {name} can be carried") for name in free)

    def unencrypted(self) -> tuple[Drift, ...]:
        """The differences in the encryption between hosts. In a pool thread."""
        return ipsec.drifts(self._encryption.compare(self._desired_ipsec()))

    def _desired_ipsec(self) -> ipsec.IpsecState:
        return ipsec.desired_state(self._carried.values(), self._names, self._underlay)

    def _differences(self) -> plan.KernelChanges:
        return plan.difference(*self.states(devices.Devices(self._threads.host())))

    def _sync(self) -> tuple[Fault, ...]:
        """Sync and return the faults. Raises NetworkFailed if the host as a whole failed."""
        overlays = self._carried.values()
        try:
            refused_peers = self._encryption.sync(self._desired_ipsec())
        finally:
            refused = self._sync_devices()
        return refusal.of_encryption(overlays, refused_peers) + refusal.of_kernel(
            overlays, self._names, refused
        )

    def _sync_devices(self) -> list[plan.Refusal]:
        refused: list[plan.Refusal] = []
        host = self._threads.host()
        desired, found = self.states(devices.Devices(host))
        changes = plan.difference(desired, found)
        if changes.drop_links or changes.make_links or changes.lost_ports:
            self._devices_made += 1
        if changes != plan.KernelChanges():
            refused = devices.apply_changes(host, changes, desired, self._aliases())
        self._six = plan.FORWARDING6 in desired.settings
        for task_id, wiring in list(self._tasks.items()):
            if any(plug.port.name in changes.lost_ports for plug in wiring):
                refused += self._mend_unless_detached(task_id, wiring)
        return refused

    def _aliases(self) -> dict[str, str]:
        """The texts that `ip link` shows on devices."""
        return {
            name: f"pyswarm network {overlay.name} {network_id}"
            for network_id, overlay in self._carried.items()
            for name in (self._names.bridge(network_id), self._names.vxlan(network_id))
        }

    def _rewiring(
        self, task_id: TaskId, wiring: tuple[Plug, ...], gone: Sequence[NetworkId]
    ) -> "_Rewiring":
        """What becomes of the task's present interfaces."""
        before = self._tasks.get(task_id, ())
        now = {plug.port.name: plug for plug in wiring}
        moved = [p for p in before if (q := now.get(p.port.name)) and p.identity != q.identity]
        left = dict.fromkeys([self._names.veth(task_id, network_id) for network_id in gone])
        left |= dict.fromkeys(plug.port.name for plug in moved)
        return _Rewiring(
            ports=tuple(left),
            dropped=tuple(plug for plug in before if plug.port.name in left),
            kept=tuple(plug for plug in before if plug.port.name not in left),
            reroutes=bool(before or left),
        )

    def _attach(
        self,
        task_id: TaskId,
        wiring: tuple[Plug, ...],
        change: "_Rewiring",
        networks: tuple[NetworkId, ...],
        inside: InNamespace,
    ) -> Sequence[Plug]:
        """The interfaces that had to be created."""
        spaces, host = self.namespaces, self._threads.host()
        if spaces.exists(task_id):
            made = self._rewire(task_id, wiring, change)
            devices.add_task_neighbours(host, wiring)
            inside.adopt(task_id, networks, lambda: spaces.netfilter_of(task_id))
            return made
        # The kernel removes a namespace, and with it its veth pairs, some time after its last use;
        # those of an earlier attempt at this task would conflict.
        left = [message.drop_link_named(plug.port.name) for plug in wiring]
        host.apply(left, ignore_missing=True)
        six = any(plug.six is not None for plug in wiring)
        with spaces.new(six=six) as (descriptor, task):
            devices.plug(host, wiring, task, spaces.host, dual=six)
            with inside.new(task_id, networks, lambda: spaces.netfilter(descriptor)):
                spaces.keep(task_id, descriptor)
        return wiring

    def _limit(self, task_id: TaskId, before: tuple[Plug, ...], wiring: tuple[Plug, ...]) -> None:
        with self.namespaces.inside(task_id) as inside:
            try:
                shaping.limit(self._threads.host(), wiring, inside)
            except NetworkFailed:
                shaping.limit(self._threads.host(), before, inside)
                raise

    def _detach(self, task_id: TaskId, wiring: tuple[Plug, ...], inside: InNamespace) -> None:
        # A namespace may outlive its file by far; its interfaces must not answer for the next
        # holder of its addresses.
        down = [message.down(plug.port.name) for plug in wiring]
        self._threads.host().apply(down, ignore_missing=True)
        devices.forget_neighbours(self._threads.host(), wiring)
        self.namespaces.drop(task_id)
        inside.forget(task_id)

    def _rewire(
        self, task_id: TaskId, wiring: tuple[Plug, ...], change: "_Rewiring"
    ) -> Sequence[Plug]:
        """Remove and make interfaces in an existing namespace."""
        host = self._threads.host()
        with self._one_at_a_time:
            host.apply([message.drop_link_named(n) for n in change.ports], ignore_missing=True)
            devices.forget_neighbours(host, change.dropped)
            if change.reroutes:
                self._reroute(task_id, wiring, change.kept)
            return self._mend(task_id, wiring)

    def _reroute(self, task_id: TaskId, wiring: tuple[Plug, ...], kept: tuple[Plug, ...]) -> None:
        host, before = self._threads.host(), {plug.port.name: plug for plug in kept}
        stays = [plug for plug in wiring if devices.is_plugged(host, plug)]
        changes = [m for plug in stays for m in rerouted(before.get(plug.port.name), plug)]
        if changes:
            with self.namespaces.inside(task_id) as inside:
                inside.apply(changes, ignore_missing=True)

    def _mend_unless_detached(
        self, task_id: TaskId, wiring: tuple[Plug, ...]
    ) -> list[plan.Refusal]:
        try:
            with self._one_at_a_time:
                wiring = self._tasks.get(task_id, ())
                self._mend(task_id, wiring)
        except (NetworkFailed, OSError) as error:
            if task_id in self._tasks:
                return [plan.Refusal(p.bridge, p.port, f"task {task_id}: {error}") for p in wiring]
        return []

    def _mend(self, task_id: TaskId, wiring: tuple[Plug, ...]) -> Sequence[Plug]:
        host = self._threads.host()
        if lost := [plug for plug in wiring if not devices.is_plugged(host, plug)]:
            dual = any(plug.six is not None for plug in wiring)
            self.namespaces.set_ipv6(task_id, dual)
            with self.namespaces.inside(task_id) as inside:
                devices.plug(host, lost, inside, self.namespaces.host, dual=dual)
        return lost


class _Rewiring(NamedTuple):
    """What a change of a task's networks does to the interfaces that it has."""

    ports: tuple[str, ...]
    """The host's ends to remove, whether they exist or not."""
    dropped: tuple[Plug, ...]
    kept: tuple[Plug, ...]
    reroutes: bool
