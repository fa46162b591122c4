"""What users request of this host's images: pulls, lists, removals, and what an image is. SHELL."""

import asyncio
from collections.abc import Callable, Collection

from agent.images.base import Credentials, Images, PullProgress
from pyswarm_core.api.v1 import dispatcher_pb2

IMAGE_KINDS = frozenset(
    {"image_pull", "image_resolve", "image_ports", "image_list", "image_remove"}
)
"""The kinds of OpenTunnel that are answered here."""

Frame = dispatcher_pb2.TunnelFrame
Queue = asyncio.Queue[dispatcher_pb2.TunnelFrame]


class HostImages:
    """The images of this host. `in_use` returns the ids of those that tasks have."""

    def __init__(self, images: Images, in_use: Callable[[], Collection[str]]) -> None:
        self._images = images
        self._in_use = in_use

    async def answer(self, request: dispatcher_pb2.OpenTunnel, queue: Queue) -> None:
        """Answer a request of one of IMAGE_KINDS. Raises ImageError."""
        match request.WhichOneof("kind"):
            case "image_pull":
                await self._pull(request.image_pull, queue)
            case "image_resolve":
                await queue.put(await self._resolve(request.image_resolve))
            case "image_ports":
                await queue.put(await self._ports(request.image_ports))
            case "image_list":
                await queue.put(await self._list())
            case _:
                await self._images.remove(request.image_remove.reference, self._in_use())
                await queue.put(Frame(image_report=dispatcher_pb2.ImageReport()))

    async def _pull(self, request: dispatcher_pb2.ImagePull, queue: Queue) -> None:
        image = await self._images.pull(request.reference, _credentials(request), _reporter(queue))
        digest = dispatcher_pb2.ImageProgress(status=f"digest: {image.digest}")
        await queue.put(Frame(image_progress=digest))

    async def _resolve(self, request: dispatcher_pb2.ImageResolve) -> dispatcher_pb2.TunnelFrame:
        digest = await self._images.resolve_digest(request.reference, _credentials(request))
        found = dispatcher_pb2.Image(digest=digest)
        return Frame(image_report=dispatcher_pb2.ImageReport(images=[found]))

    async def _ports(self, request: dispatcher_pb2.ImageResolve) -> dispatcher_pb2.TunnelFrame:
        config = await self._images.configuration(request.reference, _credentials(request))
        return Frame(exposed_ports=dispatcher_pb2.ExposedPorts(ports=config.exposed_ports))

    async def _list(self) -> dispatcher_pb2.TunnelFrame:
        images = [
            dispatcher_pb2.Image(
                id=image.id,
                digest=image.digest,
                names=image.names,
                size_bytes=image.size_bytes,
                created=image.created,
            )
            for image in await self._images.list()
        ]
        return Frame(image_report=dispatcher_pb2.ImageReport(images=images))


def _credentials(
    request: dispatcher_pb2.ImagePull | dispatcher_pb2.ImageResolve,
) -> Credentials | None:
    if not request.username:
        return None
    return Credentials(username=request.username, password=request.password)


def _reporter(queue: Queue) -> Callable[[PullProgress], None]:
    def report(progress: PullProgress) -> None:
        frame = Frame(
            image_progress=dispatcher_pb2.ImageProgress(
                status=progress.phase.value, done_bytes=progress.bytes
            )
        )
        if not queue.full():
            queue.put_nowait(frame)

    return report
