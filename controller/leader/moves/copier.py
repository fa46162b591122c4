"""Copies volumes that are moved, from the agent of the source to that of the destination. SHELL.

Level-triggered: a copy is under way exactly while its move is ready (`volumework.ready`). What ends
the move otherwise, such as a node that goes down or a user, ends the copy. A new leader begins the
copies again. The archive goes from agent to agent if they have a connection
(docs/decisions/0033-agents-send-volumes-to-each-other.md). Otherwise its frames are passed on as in
a user's stream: one at a time, with the credit of the destination, and those of data unread.
"""

import asyncio
from typing import Any

from msgspec.structs import replace

from controller.brain import volumework
from controller.brain.volumework import Change
from controller.identity.caller import CONTROLLER
from controller.leader.exchanges import READ_VOLUME, WRITE_VOLUME
from controller.leader.leadership import Leader
from controller.leader.moves.progress import MoveProgress
from controller.leader.tunnels import Answers
from pyswarm_core.aio.daemon import apart, was_cancelled
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import Clock
from pyswarm_core.errors import Exhausted, NotFound, PyswarmError, Unavailable, causes
from pyswarm_core.streams.failures import error_in
from pyswarm_core.streams.frames import (
    Copied,
    Dial,
    Digest,
    Exit,
    HalfClose,
    Size,
    Started,
    Window,
    decode,
    encode,
)
from pyswarm_core.streams.limits import MOVES_AT_ONCE
from pyswarm_core.streams.requests import ReadVolumeRequest, WriteVolumeRequest
from pyswarm_core.volumes.volume import Volume, VolumeId, VolumeWork

_log = EventLog("controller.leader.moves")

LOOK_PERIOD_S = 0.25
RETRY_S = (1.0, 5.0, 15.0, 30.0)
"""Between attempts to copy; after the last one the move has failed."""
DIRECT_ATTEMPTS = 3
"""Further ones go through the leader: something between the nodes may cut their connections."""
SUBMIT_RETRY_S = 2.0
STALLED_S = 900.0
"""Without a frame of either agent for so long an attempt has failed. A disk may take minutes to
write what it has cached.
"""
_PROGRESS_S = 1.0


class Copier:
    """The copies that one leader makes."""

    def __init__(self, leader: Leader, clock: Clock) -> None:
        self._leader = leader
        self._clock = clock
        self._under_way: dict[VolumeId, tuple[VolumeWork, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Copy what is ready, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._follow(group)
                await asyncio.sleep(LOOK_PERIOD_S)

    def _follow(self, group: asyncio.TaskGroup) -> None:
        """End copies of moves that have ended, and begin as many as there is room for."""
        ready = {one.id: one for one in volumework.ready(self._leader.state) if one.work}
        for volume_id, (work, task) in tuple(self._under_way.items()):
            if task.done():
                del self._under_way[volume_id]
            elif volume_id not in ready or ready[volume_id].work != work:
                task.cancel()
        for volume_id, volume in ready.items():
            if len(self._under_way) >= MOVES_AT_ONCE:
                return
            if volume_id not in self._under_way and volume.work is not None:
                task = group.create_task(self._move(volume, volume.work))
                self._under_way[volume_id] = volume.work, task

    async def _move(self, volume: Volume, work: VolumeWork) -> None:
        try:
            await self._copy_and_end(volume, work)
        except Exception as error:
            _log.error("volume.move_broke", trace=True, volume=volume.id, error=error)
            await self._submit(volumework.fail_move(volume.id, work, f"a bug: {error!r}"))
        finally:
            self._leader.moves.pop(volume.id, None)

    async def _copy_and_end(self, volume: Volume, work: VolumeWork) -> None:
        """Copy, several times if need be, and end the move."""
        for attempt, delay_s in enumerate((*RETRY_S, None), 1):
            begun_at = self._clock.now()
            self._leader.moves[volume.id] = MoveProgress(begun_at=begun_at, attempt=attempt)
            try:
                async with asyncio.timeout(STALLED_S) as limit:
                    is_direct = attempt <= DIRECT_ATTEMPTS
                    copy = _Copy(self._leader, volume, work, limit, direct=is_direct)
                    await apart(copy.run())
            except TimeoutError:
                error: PyswarmError = Unavailable(f"no byte arrived for {STALLED_S:g} s")
            except PyswarmError as raised:
                error = raised
            else:
                await self._submit(volumework.finish_move(volume.id, work))
                _log.info("volume.moved", volume=volume.id, to=work.to, attempts=attempt)
                return
            if was_cancelled():
                raise asyncio.CancelledError
            is_final = not isinstance(error, Unavailable | Exhausted) or delay_s is None
            _log.warning(
                "volume.copy_failed", volume=volume.id, error=error, attempt=attempt, final=is_final
            )
            if is_final or delay_s is None:
                await self._submit(volumework.fail_move(volume.id, work, str(error)))
                return
            await asyncio.sleep(delay_s)

    async def _submit(self, change: Change) -> None:
        """Make the change as soon as the store takes it: otherwise the copy would be made again."""
        while True:
            try:
                await self._leader.submit(change, CONTROLLER)
            except Unavailable as error:
                _log.warning("volume.move_waits", error=error)
                await asyncio.sleep(SUBMIT_RETRY_S)
            else:
                return


class _Copy:
    """One attempt. `limit` is its time limit, which each frame postpones. `direct`: the archive may
    go from agent to agent.
    """

    def __init__(
        self,
        leader: Leader,
        volume: Volume,
        work: VolumeWork,
        limit: asyncio.Timeout,
        *,
        direct: bool = True,
    ) -> None:
        self._direct = direct
        self._leader = leader
        self._volume = volume
        self._work = work
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._copied = 0
        self._total = 0
        self._shown_at = 0.0

    async def run(self) -> None:
        """Copy. Raises PyswarmError. A source that has no files has nothing to copy: no task has
        mounted the volume.
        """
        volume, tunnels = self._volume, self._leader.tunnels
        asked, name, size = volume.id, volume.spec.name, volume.spec.size
        source_id = volume.copies[0]
        reading = ReadVolumeRequest(
            ref=asked, volume=name, still=True, size=size, direct=self._direct
        )
        sender = source_id if self._direct else ""
        writing = WriteVolumeRequest(ref=asked, volume=name, size=size, source=sender)
        try:
            async with (
                tunnels.open(source_id, READ_VOLUME, reading) as source,
                tunnels.open(self._work.to, WRITE_VOLUME, writing) as destination,
            ):
                await self._pass_on(source, destination)
        except BaseExceptionGroup as errors:
            found = next(causes(errors))
            if not isinstance(found, _NoFiles):
                raise found from None

    async def _pass_on(self, source: Answers[Any], destination: Answers[Any]) -> None:
        async with asyncio.TaskGroup() as group:
            forward = group.create_task(self._forward(source, destination))
            await self._back(destination, source)
            forward.cancel()

    async def _forward(self, source: Answers[Any], destination: Answers[Any]) -> None:
        """The archive, until its end."""
        while (frame := await source.read()) is not None:
            if isinstance(frame, bytes):
                self._copied += len(frame)
                self._moved()
                await destination.write(frame)
                continue
            match decode(frame):
                case Size(size):
                    self._total = size
                case Digest() | HalfClose():
                    await destination.write(frame)
                case Exit() as ended:
                    if error := error_in(ended):
                        raise _NoFiles if isinstance(error, NotFound) else error
                    await asyncio.Event().wait()  # for the destination
                case _:
                    pass
        raise Unavailable("the source ended without the archive's end")

    async def _back(self, destination: Answers[Any], source: Answers[Any]) -> None:
        """Where the destination accepts the archive, and its credit, until it has the copy."""
        while (frame := await destination.read()) is not None:
            match None if isinstance(frame, bytes) else decode(frame):
                case Started() as started:
                    if self._direct:
                        await source.write(encode(self._dial(started)))
                case Window():
                    await source.write(frame)
                case Copied(size):
                    self._copied = size
                case Exit() as ended:
                    if error := error_in(ended):
                        raise error
                    return
                case _:
                    pass
            self._moved()
        raise Unavailable("the destination ended without saying that it has the copy")

    def _dial(self, started: Started) -> Dial:
        """What the source needs for a connection to the destination."""
        node = self._leader.state.nodes.get(self._work.to)
        if node is None:
            return Dial()
        return Dial(node.id, node.status.addr, started.port, started.key)

    def _moved(self) -> None:
        """Something arrived."""
        now = self._loop.time()
        self._limit.reschedule(now + STALLED_S)
        known = self._leader.moves.get(self._volume.id)
        if known is None or now < self._shown_at + _PROGRESS_S:
            return
        self._shown_at = now
        total = max(self._total, self._copied) if self._total else 0
        self._leader.moves[self._volume.id] = replace(known, copied=self._copied, total=total)


class _NoFiles(Exception):
    """The source has no files of the volume."""
