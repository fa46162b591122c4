"""Byte streams of users to the copies of volumes. SHELL.

While a stream holds the tasks of a volume, its controller postpones the end of the hold. When it
cannot any more, the hold ends by itself.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from msgspec.structs import replace

from controller.api.changes.moving.holds import extend_hold, release_hold
from controller.api.changes.moving.restoring import (
    begin_backup,
    begin_restore,
    copy_of,
    finish_restore,
)
from controller.api.changes.moving.work import require_idle
from controller.api.queries.lookup import find
from controller.api.relaying.relay import Caller, copy
from controller.brain.volumework import Change, ready_to_copy, writers
from controller.identity.caller import CONTROLLER
from controller.leader.exchanges import Exchange
from controller.leader.leadership import Leader, Mutation
from pyswarm_core.clock import seconds
from pyswarm_core.errors import Unavailable
from pyswarm_core.ids import NodeId
from pyswarm_core.kinds import VOLUME
from pyswarm_core.streams.frames import Exit, decode
from pyswarm_core.streams.requests import ReadVolumeRequest, VolumeRequest, WriteVolumeRequest
from pyswarm_core.validation import require
from pyswarm_core.validation.streams import stream_problems
from pyswarm_core.volumes.limits import VOLUME_HOLD
from pyswarm_core.volumes.volume import Volume, VolumeWork

R = TypeVar("R", bound=VolumeRequest)
Submit = Callable[[Mutation[Volume]], Awaitable[Volume]]
"""Makes a change of the caller."""

LOOK_PERIOD_S = 0.1
EXTEND_PERIOD_S = seconds(VOLUME_HOLD) / 3
STOP_S = 300.0
"""The time in which the tasks of a volume have to end; their own grace periods are shorter."""
_NAMED = 3


class Begin(NamedTuple):
    """What is done for the caller before its agent is asked."""

    submit: Submit
    noted: Callable[[Volume], None]
    """Records that the operation begins."""


async def relay_volume(
    leader: Leader, exchange: Exchange[R, Any], request: R, caller: Caller, begin: Begin
) -> None:
    """Serve the operation at the agent of the copy that the request names, until the agent ends it.
    A volume that is to be replaced and has no copy gets one.

    Raises InvalidArgument for the request, NotFound and Conflict for the volume, the agent's error,
    and Unavailable if the agent or its connection is lost.
    """
    require(list(stream_problems(request)))
    volume = find(leader.state, VOLUME, request.ref)
    if isinstance(request, WriteVolumeRequest) and request.path:
        require_idle(leader.state, volume)  # a move or backup would not have what is written
    begin.noted(volume)
    work: VolumeWork | None = None
    if isinstance(request, WriteVolumeRequest) and not request.path:
        change = begin_restore(volume.id, request.node, hold=request.hold)
        volume = await begin.submit(change)
        work = volume.work
    elif request.hold:
        if isinstance(request, ReadVolumeRequest):
            copy_of(leader.state, volume, request.node)
        volume = await begin.submit(begin_backup(volume.id))
        work = volume.work
    node_id = work.to if work is not None and work.to else NodeId("")
    node_id = node_id or copy_of(leader.state, volume, request.node)
    spec = volume.spec
    asked: Any = replace(
        request, ref=volume.id, node="", volume=spec.name, hold=False, size=spec.size
    )
    if isinstance(asked, ReadVolumeRequest):
        asked = replace(asked, still=work is not None, direct=False)
    else:
        asked = replace(asked, source="")
    if work is None:
        async with leader.tunnels.open(node_id, exchange, asked) as tunnel:
            await copy(caller, tunnel)
        return
    async with _Hold(leader, volume, work) as hold:
        await hold.until_ready()
        async with leader.tunnels.open(node_id, exchange, asked) as tunnel:
            await copy(caller._replace(write=partial(hold.pass_on, caller)), tunnel)


class _Hold:
    """The hold of a volume while a stream lasts. Used as a context manager."""

    def __init__(self, leader: Leader, volume: Volume, work: VolumeWork) -> None:
        self._leader = leader
        self._volume = volume
        self._work = work
        self._group = asyncio.TaskGroup()
        self._extending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._extending = self._group.create_task(self._extend())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the hold, also if the caller has gone."""
        self._end()
        try:
            await self._group.__aexit__(kind, error, traceback)
        finally:
            await asyncio.shield(self._release())

    def _end(self) -> None:
        if self._extending is not None:
            self._extending.cancel()

    async def _extend(self) -> None:
        while True:
            await asyncio.sleep(EXTEND_PERIOD_S)
            change = extend_hold(self._volume.id, self._work)
            if await self._leader.submit(change, CONTROLLER) is None:
                raise self._lost()

    def _lost(self) -> Unavailable:
        name = self._volume.spec.name
        return Unavailable(f"the hold of volume {name} has ended before its files were: try again")

    async def _release(self) -> None:
        with suppress(Unavailable):  # it ends by itself
            change = release_hold(self._volume.id, self._work)
            await self._leader.submit(change, CONTROLLER)

    async def until_ready(self) -> None:
        """Return once no task that mounts the volume is left. Raises Unavailable after STOP_S."""
        state, volume = self._leader.state, self._volume
        try:
            async with asyncio.timeout(STOP_S):
                while not ready_to_copy(state, volume):  # noqa: ASYNC110  # many things change it
                    await asyncio.sleep(LOOK_PERIOD_S)
        except TimeoutError:
            names = [service.name_of(task) for service, task in writers(state, volume)]
            shown = ", ".join(islice(names, _NAMED))
            raise Unavailable(
                f"volume {volume.spec.name} is still mounted by {shown} after {STOP_S:g} s"
            ) from None

    async def pass_on(self, caller: Caller, frame: Any) -> None:
        """Write a frame to the caller, who learns of the end once the hold has ended, of success
        once the volume names its copy.
        """
        found = None if isinstance(frame, bytes) else decode(frame)
        if isinstance(found, Exit):
            self._end()
            if found.code:
                await self._release()
            elif await self._leader.submit(self._finish(), CONTROLLER) is None:
                raise self._lost()
        await caller.write(frame)

    def _finish(self) -> Change:
        return finish_restore(self._volume, self._work)
