"""Changes what a running container has: its limits, the files of its secrets and configs, and its
networks. SHELL: called by the worker.

One change of a task is carried out at a time. The task's record names an interface before the
kernel has it (NetworksJoining), and until the kernel has it no more, so a restarted agent finds
each. A change that fails is undone; where that fails too, the record keeps the interfaces that the
container may have, and the next change, or a restarted agent, removes those that are not wanted.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from msgspec.structs import replace

from agent.network.base import NO_NETWORK, Interfaces, NetworkFailed
from agent.overlays.overlays import Overlays
from agent.overlays.plan import Attached, own_networks
from agent.runtime.base import Runtime
from agent.tasks import reloading
from agent.tasks.events import NetworksJoining, TaskEvent
from agent.tasks.in_place import held_before
from agent.tasks.ocispec_process import signal_number
from agent.tasks.ocispec_resources import bandwidth, cgroup_limits, interfaces
from agent.tasks.record import InPlaceChange, Interface, Record, names_of
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.objects import TaskAddress
from pyswarm_core.specs import NetworkAttachment

_log = EventLog("agent.overlays")

REATTACHING_AT_ONCE = 8


def addresses_of(record: Record) -> tuple[TaskAddress, ...]:
    """The addresses of all interfaces that the task may have."""
    return tuple(TaskAddress(network_id=i.network_id, address=i.address) for i in record.held)


class FilesOfContainers(Protocol):
    """Changes files that running containers read."""

    async def networks_changed(self, record: Record, before: Attached, after: Attached) -> None:
        """Edit those that name what it had, and has now."""
        ...

    async def files_changed(self, record: Record, change: InPlaceChange) -> bool:
        """Replace its secrets and configs; whether any differed."""
        ...

    def files_kept(self, task_id: TaskId) -> None:
        """The task's record has what its files have: versions that no task uses may go."""
        ...


class Adjusting:
    """Limits and networks of running containers."""

    def __init__(
        self,
        runtime: Runtime,
        overlays: Overlays,
        files: FilesOfContainers,
        handle: Callable[[TaskId, TaskEvent], None],
    ) -> None:
        self._runtime = runtime
        self._overlays = overlays
        self._files = files
        self._handle = handle
        self._reattaching = asyncio.Semaphore(REATTACHING_AT_ONCE)

    async def adjust(self, record: Record, new: InPlaceChange) -> None:
        """Give the running container these limits, then these secrets and configs, and tell its
        program of them. The signal is sent again if the agent is killed before the record has
        them. Raises NotRunning, RuntimeFailed, NetworkFailed and InvalidArgument.
        """
        await self.limit(record, new)
        if reloading.is_due(record, new):
            swapped = await self._files.files_changed(record, new)
            for name in reloading.signals(record, new, swapped=swapped):
                await self._runtime.kill(record.task_id, signal_number(name), everyone=False)

    async def limit(self, record: Record, new: InPlaceChange) -> None:
        """Give the running container these limits; those that it has are not written, unless
        `forced`. Raises NotRunning, RuntimeFailed and NetworkFailed; then it has the former ones,
        unless undoing failed, which is logged.
        """
        now, then = record.spec.resources, new.resources
        if (then.limits, then.swap_bytes) == (now.limits, now.swap_bytes) and not new.forced:
            return
        await self._runtime.update(record.task_id, cgroup_limits(then))
        try:
            await self._overlays.limit(record.task_id, bandwidth(then))
        except Exception:
            await self._undo_limits(record)
            raise

    async def join(self, record: Record, new: InPlaceChange) -> tuple[Interface, ...] | None:
        """Give the running container interfaces on these networks alone; return those that it has
        then, None if they stay. Raises NetworkFailed and OSError; then it has the former ones,
        unless undoing failed: the record keeps those that it may have.
        """
        if new.networks is None or not _differ(record, new.networks):
            return None
        return await self._join(record, new, new.networks)

    async def changed(self, record: Record | None) -> None:
        """The record of a task whose change has ended is stored: release what it left."""
        if record is not None and not record.ended:
            await self._overlays.keep(record.task_id, addresses_of(record))
            if record.spec.container_spec.references:
                self._files.files_kept(record.task_id)

    async def reattach(self, record: Record) -> None:
        """Attach an adopted task again: watch its interfaces, repair the host's side, and open its
        resolver, whose sockets closed with the former agent. What is left of a refused change is
        undone. Raises NetworkFailed.
        """
        async with self._reattaching:
            desired = record.held if record.in_place_change else held_before(record)
            await self._attach(record, desired, _as_held(record, desired))
        if desired != record.held:
            self._handle(record.task_id, NetworksJoining(desired))

    async def _join(
        self, record: Record, new: InPlaceChange, networks: tuple[NetworkAttachment, ...]
    ) -> tuple[Interface, ...]:
        task_id, held = record.task_id, record.held
        targets = [NetworkId(joined.target) for joined in networks]
        spec = replace(record.spec, networks=networks)
        try:
            addresses = await self._overlays.join(task_id, targets, spec.task_ips)
        except NetworkFailed:
            if held != held_before(record):  # a former change was begun
                await self._undo(record, new)
            raise
        names = names_of(
            [one.network_id for one in addresses], {one.network_id: one.name for one in held}
        )
        joined = tuple(
            Interface(one.network_id, one.address, name)
            for one, name in zip(addresses, names, strict=True)
        )
        added = [one for one in joined if one not in held]
        self._handle(task_id, NetworksJoining((*held, *added)))
        wanted = replace(
            interfaces(spec),
            names={one.network_id: one.name for one in joined},
            bandwidth=bandwidth(new.resources),
        )
        try:
            after = await self._attach(record, joined, wanted)
            before = self._overlays.attached(record.detail.addresses, after.netns_path)
            await self._files.networks_changed(record, before, after)
        except Exception:
            await self._undo(record, new)
            raise
        if record.detail.serving and record.detail.ports:
            await self._overlays.publish(task_id, record.detail.ports)
        return joined

    async def _undo(self, record: Record, new: InPlaceChange) -> None:
        """Undo a change of networks; that of limits, which came before it, stays."""
        former = held_before(record)
        wanted = replace(_as_held(record, former), bandwidth=bandwidth(new.resources))
        try:
            await self._attach(record, former, wanted)
        except Exception as error:  # the first failure is the task's
            _log.error("task.networks_not_restored", task=record.task_id, error=error)
        else:
            self._handle(record.task_id, NetworksJoining(former))

    async def _undo_limits(self, record: Record) -> None:
        former = record.spec.resources
        try:
            await self._overlays.limit(record.task_id, bandwidth(former))
        except Exception as error:
            _log.error("task.bandwidth_not_restored", task=record.task_id, error=error)
        try:
            await self._runtime.update(record.task_id, cgroup_limits(former))
        except Exception as error:
            _log.error("task.limits_not_restored", task=record.task_id, error=error)

    async def _attach(
        self, record: Record, desired: Iterable[Interface], wanted: Interfaces
    ) -> Attached:
        return await self._overlays.attach(
            record.task_id,
            dict.fromkeys(one.network_id for one in desired) or (NO_NETWORK,),
            record.spec.container_spec.dns_config.nameservers,
            calls_api=record.spec.allow_fleet_api,
            interfaces=wanted,
        )


def _as_held(record: Record, held: Iterable[Interface]) -> Interfaces:
    held = tuple(held)
    return replace(
        interfaces(record.spec),
        names={one.network_id: one.name for one in held},
        addresses={one.network_id: one.address for one in held},
    )


def _differ(record: Record, networks: tuple[NetworkAttachment, ...]) -> bool:
    """Whether the container needs other interfaces than it has, or a change was begun."""
    desired = own_networks([NetworkId(joined.target) for joined in networks])
    if desired is None:
        return False
    is_begun = addresses_of(record) != record.detail.addresses
    if is_begun or [one.network_id for one in record.held] != list(desired):
        return True
    chosen = {joined.target: joined.task_ip for joined in networks if joined.task_ip}
    return any(chosen.get(one.network_id, one.address) != one.address for one in record.held)
