"""The copier of volumes that are moved: a stand-in for the leader's, with agents on both ends.

It does what the real one does and when: level-triggered by `ready`, it takes time, may break, and
ends in one write. It keeps the guarantees of agents: the source sends once no container of its host
has the volume; the destination receives beside its copy and renames, unless a removal came first.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from controller.api.changes.moving.restoring import RESTORED, finish_restore
from controller.brain.volumework import fail_move, finish_move, ready, ready_to_copy
from controller.identity.caller import CONTROLLER
from controller.leader.loop import Loop
from controller.leader.moves.progress import MoveProgress
from pyswarm_core.clock import SECOND
from pyswarm_core.errors import PyswarmError
from pyswarm_core.ids import NodeId
from pyswarm_core.state import State
from pyswarm_core.volumes.volume import Volume, VolumeId, VolumeWork, VolumeWorkKind
from tests.sim.hosts import Host
from tests.sim.marks import Marks
from tests.sim.net import Net
from tests.sim.rand import Chance

LOOK_S = 0.2


class Leading(Protocol):
    """A controller that may lead."""

    @property
    def loop(self) -> Loop | None:
        """Its loop while it leads."""
        ...


class Copier:
    """Makes copies for whichever controllers lead; `run` is one of their processes' tasks."""

    def __init__(self, net: Net, hosts: Sequence[Host], chance: Chance, marks: Marks) -> None:
        self._net = net
        self._hosts = hosts
        self._chance = chance
        self._marks = marks

    async def run(self, name: str, leading: Leading) -> None:
        """Copy what the controller of that name is to copy, for ever."""
        under_way: dict[VolumeId, asyncio.Task[None]] = {}
        while True:
            await asyncio.sleep(LOOK_S)
            loop = leading.loop
            state = loop.state if loop is not None else None
            wanted = {one.id: one for one in (*ready(state), *_restored(state))} if state else {}
            for volume_id in [one for one in under_way if one not in wanted]:
                under_way.pop(volume_id).cancel()
            for volume_id, volume in wanted.items():
                if loop is None or volume.work is None:
                    continue
                if volume_id not in under_way or under_way[volume_id].done():
                    is_move = volume.work.kind is VolumeWorkKind.MOVE
                    make = self._copy if is_move else self._restore
                    copying = make(name, loop, volume, volume.work)
                    under_way[volume_id] = asyncio.get_running_loop().create_task(copying)

    async def _copy(self, name: str, loop: Loop, volume: Volume, work: VolumeWork) -> None:
        """One attempt; another one follows as long as the volume is to be copied."""
        source, target = self._host(volume.home), self._host(work.to)
        if source is None or target is None or not self._reaches(name, source, target):
            return
        if self._is_used(source, volume):
            return
        self._marks.hit("volume copied")
        receiving = target.engine.receiving = {**target.engine.receiving, volume.id: object()}
        token = receiving[volume.id]
        loop.moves[volume.id] = MoveProgress(begun_at=loop.state.cluster.created_at)
        data = set(source.engine.volumes.get(volume.id, ()))
        await asyncio.sleep(self._chance.duration(100, 8000) / SECOND)
        if self._chance.hits(0.1):
            self._marks.hit("volume copy failed")
            await self._submit(loop, fail_move(volume.id, work, "no space left on device"))
            return
        broke = self._chance.hits(0.1) or not self._reaches(name, source, target)
        if broke or target.engine.receiving.get(volume.id) is not token:
            self._marks.hit("volume copy broke")
            return
        if volume.id not in [one.id for one in ready(loop.state)]:
            return
        target.engine.volumes[volume.id] = data
        await asyncio.sleep(self._chance.duration(0, 300) / SECOND)
        await self._submit(loop, finish_move(volume.id, work))

    async def _restore(self, name: str, loop: Loop, volume: Volume, work: VolumeWork) -> None:
        """One attempt to replace the files by a backup, which a controller serves: with what the
        copy has, or where there was none with that of an earlier day.
        """
        target = self._host(work.to or volume.copies[0])
        if target is None or not self._reaches(name, target) or self._is_used(target, volume):
            return
        receiving = target.engine.receiving = {**target.engine.receiving, volume.id: object()}
        token = receiving[volume.id]
        await asyncio.sleep(self._chance.duration(100, 20_000) / SECOND)
        broke = self._chance.hits(0.2) or not self._reaches(name, target)
        if broke or target.engine.receiving.get(volume.id) is not token:
            return
        if self._is_used(target, volume):
            return
        target.engine.volumes[volume.id] = (
            set() if work.to else set(target.engine.volumes.get(volume.id, ()))
        )
        await asyncio.sleep(self._chance.duration(0, 300) / SECOND)
        self._marks.hit("volume restored")
        await self._submit(loop, finish_restore(volume, work))

    def _is_used(self, host: Host, volume: Volume) -> bool:
        return any(volume.id in one.volumes for one in host.engine.containers.values())

    async def _submit(self, loop: Loop, change: object) -> None:
        try:
            await loop.submit(change, CONTROLLER)  # type: ignore[arg-type]
        except PyswarmError:
            self._marks.hit("move ended while nobody led")

    def _reaches(self, name: str, *hosts: Host) -> bool:
        return all(
            host.up and self._net.passes(name, host.name) and self._net.passes(host.name, name)
            for host in hosts
        )

    def _host(self, node_id: NodeId) -> Host | None:
        return next((one for one in self._hosts if one.node_id == node_id and not one.lost), None)


def _restored(state: State) -> Iterator[Volume]:
    """The volumes whose files may be replaced by a backup now."""
    for volume in state.copies.working.values():
        is_restore = volume.work is not None and volume.work.reason == RESTORED
        if is_restore and ready_to_copy(state, volume):
            yield volume


def lost_data(
    volumes: Mapping[VolumeId, Volume], hosts: Sequence[Host], written: Mapping[str, set[str]]
) -> list[str]:
    """The pinned volumes whose only copy lacks what tasks wrote, on hosts that exist."""
    found = []
    for volume in volumes.values():
        host = next((one for one in hosts if volume.home and one.node_id == volume.home), None)
        if host is None or host.lost or volume.removing:
            continue
        missing = written.get(volume.id, set()) - host.engine.volumes.get(volume.id, set())
        if missing:
            found.append(f"volume {volume.spec.name} on {host.name} lacks what {missing} wrote")
    return found
