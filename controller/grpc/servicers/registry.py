"""The calls about the fleet's registry. SHELL: message in, one use case, message out."""

from typing import Any

from controller.api.registry import upkeep
from controller.api.registry.pushing import push_from_node
from controller.api.registry.serving import Access, Link, serve_registry
from controller.grpc.callers import current_caller
from controller.grpc.calls import Context, in_turn, read, received
from controller.grpc.parts import parts
from controller.leader.leadership import Leadership
from controller.registry.registry import FleetRegistry, NoRegistry
from pyswarm_core.api.v1 import control_pb2_grpc, images_pb2, streams_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.streams.frames import Frame, Started, decode
from pyswarm_core.streams.requests import (
    PushImageRequest,
    ReadRegistryRequest,
    WriteRegistryRequest,
)
from pyswarm_core.streams.wire import packed, unpacked


class RegistryCalls(control_pb2_grpc.ControlServicer):
    """The part of `Control` that is about the registry. Handlers get the opening request."""

    _leadership: Leadership
    _registry: FleetRegistry | NoRegistry

    async def ReadRegistry(  # type: ignore[override]
        self, request: streams_pb2.ReadRegistryRequest, context: Context
    ) -> None:
        asked = read(ReadRegistryRequest, request)
        await self._serve(Access(current_caller(), asked.password, writes=False), context)

    async def WriteRegistry(  # type: ignore[override]
        self, request: streams_pb2.WriteRegistryRequest, context: Context
    ) -> None:
        asked = read(WriteRegistryRequest, request)
        await self._serve(Access(current_caller(), asked.password, writes=True), context)

    async def ListRegistry(  # type: ignore[override]
        self, request: images_pb2.ListRegistryRequest, context: Context
    ) -> None:
        leader = self._leadership.current()
        found = await upkeep.tags(self._registry)
        replies = parts(found, lambda tag: tag, images_pb2.ListRegistryReply, "tags")
        async for reply in leader.watches.runner.each(replies):
            await context.write(reply)

    async def GetRegistryUsage(
        self, request: images_pb2.GetRegistryUsageRequest, context: Context
    ) -> images_pb2.RegistryUsage:
        found = await upkeep.usage(
            self._leadership.current(), self._registry, by_repository=request.by_repository
        )
        return to_proto(found, images_pb2.RegistryUsage())

    async def CollectRegistry(
        self, request: images_pb2.CollectRegistryRequest, context: Context
    ) -> images_pb2.CollectRegistryReply:
        freed = await upkeep.collect(self._leadership.current(), self._registry)
        return images_pb2.CollectRegistryReply(freed_bytes=freed)

    async def PushImage(  # type: ignore[override]
        self, request: images_pb2.PushImageRequest, context: Context
    ) -> None:
        asked = read(PushImageRequest, request)
        caller = current_caller()

        async def begun() -> None:
            await context.write(packed(Started()))

        ended = await push_from_node(self._leadership, self._registry, caller, asked, begun)
        await context.write(packed(ended))

    async def _serve(self, access: Access, context: Context) -> None:
        await serve_registry(self._leadership, self._registry, access, _link(context))


def _link(context: Context) -> Link:
    write = in_turn(context.write)

    async def send(frame: Frame) -> None:
        await write(packed(frame))

    async def receive() -> Frame | None:
        while True:
            message: Any = await context.read()
            if isinstance(message, bytes):
                return unpacked(message)
            message = received(message, streams_pb2.StreamFrame)
            if message is None:
                return None
            if (frame := decode(message)) is not None:
                return frame

    return Link(send, receive)
