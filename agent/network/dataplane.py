"""The kernel's network of one host, composed of its parts: overlay, filter, virtual addresses, fast
path and path MTU. SHELL.

It does not touch the kernel itself; it defines the order in which the parts apply a change. Filter
rules are applied first, so that no packet passes unfiltered, and removed last. Invariant:
everything is level-triggered. The state found in the kernel decides what is done, never the state
in memory. `sync`, `update` and `check` exclude each other; attaching and detaching run concurrently
with them.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from agent.network.base import (
    NO_CONTROL_PLANE,
    Attachment,
    Bandwidth,
    ControlPlane,
    DesiredEndpoint,
    DesiredOverlay,
    Drift,
    EndpointKey,
    Fault,
    NetworkFailed,
    Published,
)
from agent.network.fastpath.base import FastPath, Routed
from agent.network.filter.base import Filter
from agent.network.overlay import refusal
from agent.network.overlay.base import Overlay
from agent.network.pathmtu.base import LOOK_PERIOD_S, PathMtu
from agent.network.vips.base import Vips
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.ids import NetworkId, TaskId

_log = EventLog("agent.dataplane")


class Parts(NamedTuple):
    """The parts of a dataplane."""

    overlay: Overlay
    filter: Filter
    vips: Vips
    fast_path: FastPath
    path_mtu: PathMtu


class Dataplane:
    """Carries networks and tasks. Every method is idempotent and none blocks the event loop.

    All may be called concurrently; calls for one task must not overlap. Each raises NetworkFailed
    when the kernel refuses.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._overlay, self._filter, self._vips, self._fast_path, self._path_mtu = parts
        self._lock = asyncio.Lock()
        self._endpoints: dict[EndpointKey, DesiredEndpoint] = {}
        self._published: tuple[Published, ...] = ()
        self._control = NO_CONTROL_PLANE
        self._host_is_synced = False
        self._kernel_faults: tuple[Fault, ...] = ()

    async def sync(
        self,
        overlays: Sequence[DesiredOverlay],
        endpoints: Sequence[DesiredEndpoint] = (),
        published: Sequence[Published] = (),
        *,
        control: ControlPlane = NO_CONTROL_PLANE,
    ) -> tuple[Fault, ...]:
        """Make the host's networks, and the forwarding of connections on them, exactly these:
        repair what others changed, remove what is no longer desired.

        An entry that the kernel refuses (a device, a route, a peer, an element) costs that entry
        only: all others are made, and a fault is returned. NetworkFailed concerns the host as a
        whole.

        When it returns, no new connection of a task on this host, and none accepted at this host's
        published ports, is forwarded to a backend that is not listed, and no task can open a
        connection to the control plane. Networks must be synced
        before a task attaches to them, and must stay until their last task is detached. Existing
        connections are kept; UDP flows to a removed backend move to another one.
        """
        async with self._lock:
            before = self._overlay.carried, self._published, self._endpoints
            await self._overlay.set_desired(overlays)
            carried = self._overlay.carried
            self._endpoints = {endpoint.key: endpoint for endpoint in endpoints}
            self._published, self._control = tuple(published), control
            self._vips.set_desired(carried, endpoints)
            if carried:
                networks = [*carried.values()]
                await self._filter.sync(networks, endpoints, published, control=control)
            # Reading the whole host takes longer than programming a service in all tasks: a change
            # of endpoints alone does not wait for it, and the next check repairs the rest.
            same_host = before[:2] == (carried, self._published)
            if not (same_host and before[2] != self._endpoints and self._host_is_synced):
                await self._sync_host()
            if not carried:
                await self._filter.sync(())
            return self._faults(overlays, await self._vips.sync())

    async def update(
        self, changed: Mapping[EndpointKey, DesiredEndpoint | None]
    ) -> tuple[Fault, ...]:
        """Replace these endpoints (None: remove) and leave the rest of the last sync.

        The cost is proportional to the change; the guarantees are those of `sync`.
        """
        async with self._lock:
            before = [old for key in changed if (old := self._endpoints.pop(key, None))]
            now = [endpoint for endpoint in changed.values() if endpoint is not None]
            self._endpoints.update((endpoint.key, endpoint) for endpoint in now)
            carried = self._overlay.carried
            networks = self._vips.update_desired(carried, changed)
            if not await self._filter.update(before, now):
                endpoints = [*self._endpoints.values()]
                await self._filter.sync(
                    [*carried.values()], endpoints, self._published, control=self._control
                )
            return self._faults(carried.values(), await self._vips.sync(networks))

    async def attach(
        self,
        task_id: TaskId,
        attachments: Sequence[Attachment],
        gone: Sequence[NetworkId] = (),
    ) -> str:
        """Create the task's network namespace with these interfaces, and return its path.

        The default route uses the first network that is not internal. Without attachments there is
        only `lo`. After a failure nothing is left of it. In a namespace that exists (an adopted
        task, or one whose networks change), the interfaces that are missing are made, and those on
        the networks that are `gone` removed.
        """
        if gone:
            self._fast_path.moved(self._overlay.plugs_of(task_id))
        wired = await self._overlay.attach(task_id, attachments, self._vips, gone)
        self._fast_path.moved(wired.plugs)
        if self._fast_path.forwards_to(wired.made):
            async with self._lock:
                await self._sync_fast_path(anew=True)
        return wired.path

    async def limit(self, task_id: TaskId, bandwidth: Bandwidth) -> None:
        """Change the bandwidth of an attached task's interfaces. An unknown task is no error."""
        if self._overlay.plugs_of(task_id):
            await self._overlay.limit(task_id, bandwidth)

    async def detach(self, task_id: TaskId) -> None:
        """Remove the task's namespace; the kernel frees it when its last process ends.

        An unknown task is no error.
        """
        self._fast_path.moved(self._overlay.plugs_of(task_id))
        await self._overlay.detach(task_id, self._vips)

    async def found(self) -> set[TaskId]:
        """The tasks whose namespaces exist, whoever created them."""
        return await self._overlay.found()

    async def check(self) -> tuple[Drift, ...]:
        """The differences from the last `sync`. Cheap: some dumps, no process is started.

        `sync` repairs them.
        """
        async with self._lock:
            devices = await self._overlay.check()
            rules = await self._filter.check()
            fast_path = await self._fast_path.check()
            # Only a sync of the whole host repairs these.
            self._host_is_synced &= not (devices or fast_path)
            return (*devices, *rules, *fast_path, *await self._vips.check())

    async def backends(self, task_id: TaskId, address: str) -> tuple[str, ...] | None:
        """The backends that the task's namespace forwards connections to a virtual address to; see
        Vips.
        """
        return await self._vips.backends(task_id, address)

    async def tend(self) -> None:
        """Measure path MTUs, and update the fast path as tasks come and go; runs for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tend_paths())
            group.create_task(self._tend_fast_path())

    async def measure_paths(self) -> None:
        """Measure the peers that are due. Where full packets are lost, set the MTU of the routes,
        so that tasks get an error instead. Raises NetworkFailed.
        """
        async with (
            self._lock
        ):  # The MTU of the host's own device is unknown before networks are made.
            networks = [o for o in self._overlay.carried.values() if o.vni]
            most = self._overlay.underlay_mtu
        peers = {peer.address: None for overlay in networks for peer in overlay.peers}
        if most and await self._path_mtu.measure(peers, most):
            async with self._lock:
                await self._sync_host()

    async def renew_fast_path(self) -> None:
        """Wait until no more tasks come or go after a change; then write the fast path's rules.
        Raises NetworkFailed.
        """
        await self._fast_path.due()
        async with self._lock:
            await self._sync_fast_path()
            await self._fast_path.record_listing()

    async def _sync_host(self) -> None:
        self._host_is_synced = False
        published = {task.network_id for task in self._published}
        self._kernel_faults = await self._overlay.sync(published, self._path_mtu.measured)
        await self._sync_fast_path()
        self._host_is_synced = True

    async def _sync_fast_path(self, *, anew: bool = False) -> None:
        await self._filter.record_listing()
        overlay, paths = self._overlay, self._path_mtu.measured
        carried = [*overlay.carried.values()]
        routed = Routed(carried, overlay.underlay_mtu, paths, overlay.devices_made)
        await self._fast_path.sync(routed, overlay.plugs, anew=anew)

    def _faults(
        self, overlays: Iterable[DesiredOverlay], tasks: Iterable[refusal.TaskRefusal]
    ) -> tuple[Fault, ...]:
        return refusal.gathered(
            overlays, self._overlay.refused, self._kernel_faults, self._filter.refused, tasks
        )

    async def _tend_paths(self) -> None:
        while True:
            try:
                await self.measure_paths()
            except NetworkFailed as error:
                _log.warning("network.path_mtu_failed", error=error)
            await asyncio.sleep(LOOK_PERIOD_S)

    async def _tend_fast_path(self) -> None:
        while True:
            try:
                await self.renew_fast_path()
            except (NetworkFailed, OSError) as error:
                _log.warning("network.fast_path_failed", error=error)
