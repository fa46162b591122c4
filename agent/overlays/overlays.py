"""Applies the plan to the kernel's network. SHELL over `Plan`, `Dataplane` and `Resolvers`.

The plan is stored in files, so that a restarted agent restores the same network before it reaches a
controller, or without one. A power loss may destroy the files, but then no task is left running.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from agent.assignment import Assignment
from agent.network.base import (
    ANY_INTERFACES,
    HOST_BRIDGE,
    Attachment,
    Bandwidth,
    Fault,
    Interfaces,
    NetworkFailed,
    Resolvers,
)
from agent.network.dataplane import Dataplane
from agent.overlays.addresses import NONE_CHOSEN
from agent.overlays.files import NetworkFiles
from agent.overlays.plan import Attached, Plan, Work, own_networks
from agent.tasks.record import FIRST_INTERFACE, names_of
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import SECOND, Instant, seconds
from pyswarm_core.controlplane import ControlHost
from pyswarm_core.docker.units import format_duration
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.limits import NETWORK_WAIT_MAX
from pyswarm_core.objects import TaskAddress
from pyswarm_core.specs import PortConfig

_log = EventLog("agent.overlays")

REPAIR_PERIOD_S = 15.0
"""How often the kernel is compared with the plan."""
RETRY_S = 1.0
ADDRESS_WAIT_S = 5.0
"""A task of the slot that ended a moment ago has its address until its namespace is removed."""


def _now() -> Instant:
    return Instant(int(asyncio.get_running_loop().time() * SECOND))


class NetworkObserver(Protocol):
    """Observes the work on the host's network."""

    def synced(self, duration_s: float) -> None:
        """The kernel was configured as desired; it took this long."""
        ...

    def healed(self, drifts: int) -> None:
        """This many differences of the kernel from the desired state were corrected."""
        ...


class Overlays:
    """Attaches tasks and syncs the dataplane. `run` does the work; the other methods request it."""

    def __init__(
        self,
        dataplane: Dataplane,
        plan: Plan,
        path: Path,
        acknowledge: Callable[[int, int], None],
        resolvers: Resolvers,
        *,
        watch: NetworkObserver | None = None,
    ) -> None:
        """`acknowledge` receives the revision of the newest assignment that the kernel implements,
        and the digest of its endpoints.
        """
        self._dataplane = dataplane
        self._plan = plan
        self._files = NetworkFiles(path)
        self._on_acknowledge = acknowledge
        self._resolvers = resolvers
        self._watch = watch
        self.programmed = 0
        """The newest revision that the kernel implements."""
        self._synced = 0
        """The version of the plan that the kernel implements."""
        self._changed = asyncio.Condition()
        self.kept: Callable[[], Collection[tuple[NetworkId, str]]] = tuple
        """Returns the addresses that are given only to tasks that chose them."""
        plan.restore(self._files.load())

    def adopt(
        self,
        task_id: TaskId,
        addresses: tuple[TaskAddress, ...],
        ports: tuple[PortConfig, ...] = (),
    ) -> None:
        """Record the addresses and host ports of an adopted task."""
        self._plan.adopt(task_id, addresses, ports)

    async def assign(self, assignment: Assignment) -> None:
        """Apply an assignment to the plan; see Plan."""
        if self._plan.assign(assignment):
            await self._notify()
        if self._synced == self._plan.version:
            self._acknowledge(self._plan.revision, self._plan.digest)

    def closes(self, address: str, port: int) -> bool:
        """Whether this port is closed to tasks; see ControlPlane."""
        return self._plan.control.closes(address, port)

    async def close(self, source: str, hosts: Iterable[ControlHost]) -> None:
        """Close these parts of the control plane to tasks; see Plan."""
        if self._plan.close(source, hosts):
            await self._notify()

    async def attach(
        self,
        task_id: TaskId,
        networks: Iterable[NetworkId],
        servers: Sequence[str] = (),
        *,
        calls_api: bool = False,
        interfaces: Interfaces = ANY_INTERFACES,
    ) -> Attached:
        """Give the task addresses, a network namespace and, on overlays, a resolver that forwards
        unknown names to `servers` (none: the host's servers). What a task has of these it keeps;
        it leaves other networks, and has its addresses there until `keep`. `calls_api`: the API
        is open to it.

        Raises NetworkFailed: no address is free, or the kernel refused.
        """
        desired = own_networks(networks)
        if desired is None:
            return Attached()
        addresses = await self.join(task_id, networks, interfaces.addresses)
        gone = [a for a in self._plan.addresses(task_id) if a not in addresses]
        if calls_api and self._plan.allow_api(task_id):
            await self._notify()
            await self.settled()
        names = names_of([a.network_id for a in addresses], interfaces.names)
        path = await self._dataplane.attach(
            task_id,
            tuple(
                Attachment(
                    network_id=a.network_id,
                    address=a.address,
                    ifname=name,
                    mac=interfaces.mac if name == FIRST_INTERFACE else "",
                    bandwidth=interfaces.bandwidth,
                )
                for a, name in zip(addresses, names, strict=True)
            ),
            [a.network_id for a in gone if a.network_id not in desired],
        )
        overlays = [network_id for network_id in desired if network_id != HOST_BRIDGE]
        if overlays:
            await self._resolvers.open(task_id, overlays, servers)
        else:
            await self._resolvers.close(task_id)
        return self._plan.attached(addresses, path)

    async def keep(self, task_id: TaskId, addresses: Sequence[TaskAddress]) -> None:
        """Release the task's other addresses, which its stored record names no more: a restarted
        agent would find one with two tasks otherwise.
        """
        if self._plan.stay(task_id, addresses):
            await self._notify()

    async def join(
        self,
        task_id: TaskId,
        networks: Iterable[NetworkId],
        chosen: Mapping[NetworkId, str] = NONE_CHOSEN,
    ) -> tuple[TaskAddress, ...]:
        """The task's addresses on these networks, in this order. Raises NetworkFailed: one of the
        networks is not ready (see `ready`), no address is free, or the `chosen` one is not.
        """
        desired = own_networks(networks) or ()
        held = dict.fromkeys(a.network_id for a in self._plan.addresses(task_id))
        if has := [network_id for network_id in desired if network_id in held]:
            await self.ready(has, is_new=False)
        if new := [network_id for network_id in desired if network_id not in held]:
            await self.ready(new)
        return self._plan.join(task_id, desired, chosen, self.kept())

    def attached(self, addresses: tuple[TaskAddress, ...], path: str) -> Attached:
        """The network of a task with these addresses and this namespace, as its container sees
        it.
        """
        return self._plan.attached(addresses, path)

    async def released(self, task_id: TaskId, addresses: Mapping[NetworkId, str]) -> None:
        """Return once no other task holds these addresses, at the latest after ADDRESS_WAIT_S."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ADDRESS_WAIT_S), self._changed:
                await self._changed.wait_for(lambda: not self._plan.is_held(task_id, addresses))

    async def ready(self, networks: Iterable[NetworkId], *, is_new: bool = True) -> None:
        """Return once a task may attach to these networks or, if not `is_new`, be repaired on them.

        Raises NetworkFailed: a network is not assigned, this host cannot carry it, or the kernel is
        not configured in time.
        """
        desired = own_networks(networks) or ()
        faults = self._plan.faults
        if missing := self._plan.unassigned(desired, is_new=is_new):
            told = faults.blocking(missing)
            raise NetworkFailed(told or f"network {missing} is not assigned to this node")
        try:
            async with asyncio.timeout(seconds(NETWORK_WAIT_MAX)):
                await self.settled()
        except TimeoutError:
            names = ", ".join(map(self._plan.name, desired)) or "none"
            waited = format_duration(NETWORK_WAIT_MAX)
            why = faults.sync_error or "the kernel is still being configured"
            raise NetworkFailed(f"networks ({names}) not ready after {waited}: {why}") from None
        for network_id in desired if is_new else ():
            if reason := faults.blocking(network_id):
                raise NetworkFailed(reason)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The current faults of this host's networks."""
        return self._plan.faults.current(_now())

    def claim(self, task_id: TaskId, ports: Iterable[PortConfig]) -> tuple[PortConfig, ...]:
        """Assign host ports to the task; see Plan."""
        return self._plan.claim(task_id, ports)

    async def publish(self, task_id: TaskId, ports: tuple[PortConfig, ...]) -> None:
        """Forward exactly these ports of the host to the task; return once the kernel does."""
        if self._plan.publish(task_id, ports):
            await self._notify()
            await self.settled()

    @property
    def named(self) -> frozenset[TaskId]:
        """The tasks that rules of this host name; see Plan."""
        return self._plan.named

    async def limit(self, task_id: TaskId, bandwidth: Bandwidth) -> None:
        """Change the bandwidth of a task's interfaces; a task without them is no error. Raises
        NetworkFailed.
        """
        await self._dataplane.limit(task_id, bandwidth)

    async def detach(self, task_id: TaskId) -> None:
        """Remove the task's namespace and release its addresses; a task without them is no
        error.
        """
        await self._resolvers.close(task_id)
        await self._dataplane.detach(task_id)
        self._plan.leave(task_id)
        await self._notify()

    async def found(self) -> set[TaskId]:
        """The tasks that have a network namespace, whoever created it."""
        return await self._dataplane.found()

    async def settled(self) -> None:
        """Return once the kernel implements everything requested so far."""
        target = self._plan.version
        async with self._changed:
            await self._changed.wait_for(lambda: self._synced >= target)

    async def run(self) -> None:
        """Keep the kernel equal to the plan, for ever: sync after every change, and repair what
        others changed in between.
        """
        self._plan.change()
        drifts, saved = 0, 0
        while True:
            work = self._plan.take_work()
            # Saved before the kernel is changed: an agent that restarts after a kill must not plan
            # for less than the kernel holds.
            if work.anew and saved != work.version:
                self._files.save(self._plan.kept())
                saved = work.version
            self._files.save_endpoints(work.changed)
            if not await self._apply(work, drifts):
                await asyncio.sleep(RETRY_S)
                continue
            async with self._changed:
                self._synced = work.version
                self._changed.notify_all()
            # An assignment that arrived meanwhile and changed nothing is acknowledged as well.
            same = self._plan.version == work.version
            if revision := self._plan.revision if same else work.revision:
                self._acknowledge(revision, work.digest)
            drifts = await self._wait_for_work(work.version)

    async def _apply(self, work: Work, drifts: int) -> bool:
        """Whether the kernel implements the work now."""
        loop, plan = asyncio.get_running_loop(), self._plan
        began = loop.time()
        carried = [overlay.network_id for overlay in plan.carried] if work.anew else None
        try:
            faults = await self._sync(work)
        except NetworkFailed as error:
            _log.error("network.sync_failed", error=error)
            plan.faults.sync_failed(str(error))
            plan.look_at_all()
            return False
        for fault in plan.faults.synced(faults, carried, _now()):
            _log.error("network.fault", network=fault.network_id, reason=fault.reason)
        if self._watch:
            self._watch.synced(loop.time() - began)
            self._watch.healed(drifts)
        return True

    async def _sync(self, work: Work) -> tuple[Fault, ...]:
        if not work.anew:
            self._resolvers.update(work.changed)
            return await self._dataplane.update(work.changed)
        carried, endpoints = self._plan.carried, self._plan.endpoints
        self._resolvers.replace(carried, endpoints)
        published = tuple(self._plan.published.values())
        control = self._plan.control
        return await self._dataplane.sync(carried, endpoints, published, control=control)

    def _acknowledge(self, revision: int, digest: int) -> None:
        self.programmed = max(self.programmed, revision)
        self._on_acknowledge(revision, digest)

    async def _wait_for_work(self, version: int) -> int:
        """Return when a sync is due: the number of drifts found, 0 if the plan changed."""
        while True:
            try:
                async with asyncio.timeout(REPAIR_PERIOD_S), self._changed:
                    await self._changed.wait_for(lambda: self._plan.version > version)
                return 0
            except TimeoutError:
                pass
            try:
                drifts = await self._dataplane.check()
            except NetworkFailed as error:
                _log.warning("network.check_failed", error=error)
                self._plan.look_at_all()
                return 0
            if drifts:
                self._plan.look_at_all()
                for drift in drifts[:10]:
                    _log.warning("network.drift", kind=drift.kind, detail=drift.detail)
                return len(drifts)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
