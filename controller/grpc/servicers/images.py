"""The calls about images of nodes. SHELL: message in, one use case, message out."""

import msgspec

from controller.api.images import details, nodes, removing
from controller.api.images.users import Shows, everything
from controller.grpc.callers import current_caller
from controller.grpc.calls import Context, in_turn, read, sent
from controller.grpc.users import UserCalls
from controller.identity.policy import in_stacks
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import images_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.images.views import PruneImages, PullImage, RemoveImage


class ImageCalls(UserCalls):
    """The part of `Control` that is about images of nodes."""

    async def PullImage(self, request: pb.PullImageRequest, context: Context) -> None:  # type: ignore[override]
        send = sent(context, pb.NodeImageProgress)
        await nodes.pull_image(self._leader(), read(PullImage, request), send)

    async def ListImages(self, request: pb.ListRequest, context: Context) -> None:  # type: ignore[override]
        write = in_turn(context.write)

        async def send(found: nodes.ImagesOfNode) -> None:
            await write(_reply(found))

        asked = nodes.Listing(request.filters, request.all, _shows())
        await nodes.list_images(self._leader(), asked, send)

    async def InspectImage(
        self, request: images_pb2.ImageRef, context: Context
    ) -> images_pb2.InspectImageReply:
        found = await details.inspect_image(self._leader(), request.ref, _shows())
        return to_proto(found, images_pb2.InspectImageReply())

    async def RemoveImage(
        self, request: images_pb2.RemoveImageRequest, context: Context
    ) -> images_pb2.RemoveImageReply:
        removed = await removing.remove_image(self._leader(), read(RemoveImage, request))
        parts = (to_proto(one, images_pb2.NodeImagesRemoved()) for one in removed)
        return images_pb2.RemoveImageReply(nodes=parts)

    async def PruneImages(  # type: ignore[override]
        self, request: images_pb2.PruneImagesRequest, context: Context
    ) -> None:
        send = sent(context, images_pb2.NodeImagesRemoved)
        await removing.prune_images(self._leader(), read(PruneImages, request), send)


def _shows() -> Shows:
    """Which services the caller is shown."""
    caller = current_caller()
    if not caller.stacks:
        return everything
    return lambda service: in_stacks(caller, service.spec.labels)


def _reply(found: nodes.ImagesOfNode) -> pb.ListImagesReply:
    return pb.ListImagesReply(nodes=[pb.NodeImages(**msgspec.structs.asdict(found))])
