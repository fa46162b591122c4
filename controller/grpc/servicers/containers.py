"""The calls about one container. SHELL: message in, one use case, message out."""

from collections.abc import Sequence
from typing import Any

from controller.api import containers
from controller.api.containers import Requested
from controller.grpc.callers import current_caller
from controller.grpc.calls import Context, read
from controller.identity.audit import name_of
from controller.leader.exchanges import TopRequest
from controller.leader.leadership import Leadership
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import control_pb2_grpc, files_pb2
from pyswarm_core.clock import Clock
from pyswarm_core.codec import to_proto
from pyswarm_core.objects import Task
from pyswarm_core.views import FileChange


class ContainerCalls(control_pb2_grpc.ControlServicer):
    """The part of `Control` that is about one container."""

    _leadership: Leadership
    _clock: Clock

    async def Top(self, request: files_pb2.TopRequest, context: Context) -> files_pb2.TopReply:
        found = await containers.top(self._leadership.current(), read(TopRequest, request))
        return to_proto(found, files_pb2.TopReply())

    async def Changes(self, request: files_pb2.ChangesRequest, context: Context) -> None:  # type: ignore[override]
        async def send(changes: Sequence[FileChange]) -> None:
            part: Sequence[Any] = changes
            await context.write(files_pb2.ChangesReply(changes=part))

        await containers.send_changes(self._leadership.current(), request.ref, send)

    async def PauseContainer(
        self, request: pb.RefRequest, context: Context
    ) -> files_pb2.PauseReply:
        return await self._pause(request.ref, paused=True)

    async def UnpauseContainer(
        self, request: pb.RefRequest, context: Context
    ) -> files_pb2.PauseReply:
        return await self._pause(request.ref, paused=False)

    async def _pause(self, ref: str, *, paused: bool) -> files_pb2.PauseReply:
        task = await containers.pause(self._leadership.current(), ref, paused=paused)
        self._record("pause" if paused else "unpause", task)
        return files_pb2.PauseReply()

    def _record(self, action: str, task: Task, reason: str = "") -> None:
        """Record what the caller did."""
        caller = name_of(current_caller())
        requested = Requested(action, caller, self._clock.now(), reason)
        containers.record_event(self._leadership.current(), task, requested)

    async def WaitContainer(self, request: files_pb2.WaitRequest, context: Context) -> None:  # type: ignore[override]
        ended = await containers.wait(self._leadership.current(), request.ref)
        await context.write(to_proto(ended, files_pb2.WaitReply()))
