"""The calls that are byte streams: the opening request in, frames in both directions. SHELL.

Admission reads the first frame and passes on its request, so that these calls are checked, counted
and recorded as calls with one request.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from google.protobuf.message import Message

from controller.api.queries.lookup import find_container_task, requested_task, task_name
from controller.api.relaying.images import relay_build, relay_image
from controller.api.relaying.relay import Caller, Chosen, relay
from controller.api.relaying.volumes import Begin, relay_volume
from controller.brain.slices import Slices
from controller.grpc.callers import checked, current_caller
from controller.grpc.calls import Context, read, received
from controller.identity.masking import entries_without_secrets
from controller.leader.exchanges import (
    ATTACH,
    COPY_IN,
    COPY_OUT,
    EXEC,
    EXPORT,
    PORT_FORWARD,
    READ_VOLUME,
    WRITE_VOLUME,
    Exchange,
)
from controller.leader.leadership import Leader, Leadership, Mutation
from pyswarm_core.api.v1 import control_pb2_grpc, images_pb2, streams_pb2
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.identity.audit import FieldChange
from pyswarm_core.objects import Node, Task
from pyswarm_core.state import State
from pyswarm_core.streams.requests import (
    ALL_OPERATIONS,
    AttachRequest,
    BuildImageRequest,
    CopyInRequest,
    CopyOutRequest,
    ExecRequest,
    ExportRequest,
    FileRequest,
    PortForwardRequest,
    ReadVolumeRequest,
    SaveImageRequest,
    StreamRequest,
    WriteVolumeRequest,
)
from pyswarm_core.volumes.volume import Volume

R = TypeVar("R", bound=StreamRequest)

OPENINGS: Mapping[str, str] = MappingProxyType({one.method: one.field for one in ALL_OPERATIONS})
"""By RPC, the kind of its first frame."""


def opening(method: str, frame: Any) -> Message:
    """The request in the first frame of a call. Raises InvalidArgument for another frame."""
    kind = OPENINGS[method.rpartition("/")[2]]
    found = "data" if isinstance(frame, bytes) else frame.WhichOneof("kind")
    if found != kind:
        raise InvalidArgument(f"the first frame is {found or 'empty'}: expected {kind}")
    request: Message = getattr(frame, kind)
    return request


class StreamCalls(control_pb2_grpc.ControlServicer):
    """The part of `Control` that is byte streams. Handlers get the opening request."""

    _leadership: Leadership

    async def Exec(self, request: streams_pb2.ExecRequest, context: Context) -> None:  # type: ignore[override]
        asked = read(ExecRequest, request)
        about = [FieldChange(field="Command", after=" ".join(entries_without_secrets(asked.args)))]
        names = [entry.partition("=")[0] for entry in asked.env]
        about += [FieldChange(field="Env", after=" ".join(names))] if names else []
        about += [FieldChange(field="Privileged", after="true")] if asked.privileged else []
        await self._relay("exec", EXEC, asked, context, about)

    async def Attach(self, request: streams_pb2.AttachRequest, context: Context) -> None:  # type: ignore[override]
        asked = read(AttachRequest, request)
        about = [FieldChange(field="Stdin", after="true")] if asked.stdin else []
        await self._relay("attach", ATTACH, asked, context, about)

    async def PortForward(  # type: ignore[override]
        self, request: streams_pb2.PortForwardRequest, context: Context
    ) -> None:
        asked = read(PortForwardRequest, request)
        about = [FieldChange(field="Port", after=str(asked.port))]
        await self._relay("port-forward", PORT_FORWARD, asked, context, about)

    async def CopyOut(self, request: streams_pb2.CopyOutRequest, context: Context) -> None:  # type: ignore[override]
        asked = read(CopyOutRequest, request)
        about = [FieldChange(field="From", after=asked.path)]
        await self._relay("cp", COPY_OUT, asked, context, about)

    async def CopyIn(self, request: streams_pb2.CopyInRequest, context: Context) -> None:  # type: ignore[override]
        asked = read(CopyInRequest, request)
        about = [FieldChange(field="To", after=asked.path)]
        await self._relay("cp", COPY_IN, asked, context, about)

    async def Export(self, request: streams_pb2.ExportRequest, context: Context) -> None:  # type: ignore[override]
        await self._relay("export", EXPORT, read(ExportRequest, request), context, [])

    async def ReadVolume(  # type: ignore[override]
        self, request: streams_pb2.ReadVolumeRequest, context: Context
    ) -> None:
        asked = read(ReadVolumeRequest, request)
        leader, caller = self._ends(context)
        begin = _beginning(leader, "volume backup", "From", asked.path)
        await relay_volume(leader, READ_VOLUME, asked, caller, begin)

    async def WriteVolume(  # type: ignore[override]
        self, request: streams_pb2.WriteVolumeRequest, context: Context
    ) -> None:
        asked = read(WriteVolumeRequest, request)
        leader, caller = self._ends(context)
        begin = _beginning(leader, "volume restore", "To", asked.path)
        await relay_volume(leader, WRITE_VOLUME, asked, caller, begin)

    async def SaveImage(  # type: ignore[override]
        self, request: images_pb2.SaveImageRequest, context: Context
    ) -> None:
        asked = read(SaveImageRequest, request)
        leader, caller = self._ends(context)

        def noted(image: str) -> None:
            leader.audit.note(current_caller(), "image save", f"image/{image}", [])

        await relay_image(leader, asked, caller, noted)

    async def BuildImage(  # type: ignore[override]
        self, request: images_pb2.BuildImageRequest, context: Context
    ) -> None:
        asked = read(BuildImageRequest, request)
        leader, caller = self._ends(context)
        names = " ".join(tag for tag in asked.tags) or "<none>"

        def begun(node: Node) -> None:
            about = [FieldChange(field="Tags", after=names)]
            title = f"node/{node.description.hostname}"
            leader.audit.note(current_caller(), "image build", title, about)

        await relay_build(leader, asked, caller, begun)

    def _ends(self, context: Context) -> tuple[Leader, Caller]:
        return self._leadership.current(), Caller(partial(_next, context), context.write)

    async def _relay(
        self,
        verb: str,
        exchange: Exchange[R, Any],
        request: R,
        context: Context,
        about: list[FieldChange],
    ) -> None:
        leader, caller = self._ends(context)
        begun = _recorded(leader, verb, about)
        find = _container if isinstance(request, FileRequest) else requested_task
        await relay(leader, exchange, request, caller, Chosen(find, begun))


def _container(state: State, request: StreamRequest) -> Slices[Task]:
    return find_container_task(state, request.ref)


def _recorded(leader: Leader, verb: str, about: list[FieldChange]) -> Callable[[Task], None]:
    """Makes the record when the operation begins: it may last longer than this controller."""

    def record(task: Task) -> None:
        name = f"task/{task_name(leader.state, task)}"
        leader.audit.note(current_caller(), verb, name, about)

    return record


def _beginning(leader: Leader, whole: str, field: str, path: str) -> Begin:
    """The same of a volume; `whole` is the verb where the request names no path of it."""

    def record(volume: Volume) -> None:
        about = [FieldChange(field=field, after=path)] if path else []
        verb = "volume cp" if path else whole
        leader.audit.note(current_caller(), verb, f"volume/{volume.spec.name}", about)

    async def submit(change: Mutation[Volume]) -> Volume:
        return await leader.submit(checked(change), current_caller(), whole)

    return Begin(submit, record)


async def _next(context: Context) -> streams_pb2.StreamFrame | bytes | None:
    message = await context.read()
    return message if isinstance(message, bytes) else received(message, streams_pb2.StreamFrame)
