"""What users request of this host's images: pulls, lists, removals, and what an image is. SHELL."""

import asyncio
from collections.abc import Callable, Sequence

from agent.images.base import Credentials, Image, ImageError, Images, PullProgress
from agent.images.building.steps import parents_of, steps_of
from agent.images.gc.collector import Collector
from agent.session.needed import reclaimable, users
from agent.worker import Worker
from pyswarm_core.api.v1 import dispatcher_pb2, images_pb2
from pyswarm_core.docker.reference import parse_reference

IMAGE_KINDS = frozenset(
    f"image_{what}" for what in ("pull", "resolve", "ports", "list", "delete", "details")
)
"""The kinds of OpenTunnel that are answered here."""

_PART_BYTES = 256 * 1024
"""Of one frame of a list, about."""
_LABEL_BYTES = 64 * 1024
"""An image with more is listed without its labels."""
_CONFIG_BYTES = 1024 * 1024
_TAGS_MAX = 1_000
"""Of a repository of which all tags are pulled."""

Frame = dispatcher_pb2.TunnelFrame
Queue = asyncio.Queue[dispatcher_pb2.TunnelFrame]


class HostImages:
    """The images of this host."""

    def __init__(self, images: Images, worker: Worker, collector: Collector) -> None:
        self._images = images
        self._worker = worker
        self._collector = collector

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
                await self._list(queue)
            case "image_delete":
                await self._delete(request.image_delete, queue)
            case _:
                await queue.put(await self._details(request.image_details.ref))

    async def _pull(self, request: dispatcher_pb2.ImagePull, queue: Queue) -> None:
        credentials = _credentials(request)
        references = [request.reference]
        if request.all_tags:
            name = parse_reference(request.reference).name
            tags = await self._images.tags(request.reference, credentials)
            if len(tags) > _TAGS_MAX:
                raise ImageError(f"{name} has {len(tags)} tags: expected at most {_TAGS_MAX}")
            references = [f"{name}:{tag}" for tag in tags]
        for reference in references:
            await self._pull_one(reference, request, queue)

    async def _pull_one(
        self, reference: str, request: dispatcher_pb2.ImagePull, queue: Queue
    ) -> None:
        before = await self._id_of(reference)
        image = await self._images.pull(
            reference, _credentials(request), _reporter(queue, reference), request.platform
        )
        told = dispatcher_pb2.ImageProgress(
            status=f"digest: {image.digest}",
            reference=reference,
            digest=image.digest,
            up_to_date=image.id == before,
        )
        await queue.put(Frame(image_progress=told))

    async def _id_of(self, reference: str) -> str:
        """The id of the image that has this name now; empty if none has."""
        name = parse_reference(reference).canonical
        found = (image.id for image in (await self._images.stored()).images if name in image.names)
        return next(found, "")

    async def _resolve(self, request: dispatcher_pb2.ImageResolve) -> dispatcher_pb2.TunnelFrame:
        digest = await self._images.resolve_digest(request.reference, _credentials(request))
        found = dispatcher_pb2.Image(digest=digest)
        return Frame(image_report=dispatcher_pb2.ImageReport(images=[found]))

    async def _ports(self, request: dispatcher_pb2.ImageResolve) -> dispatcher_pb2.TunnelFrame:
        config = await self._images.configuration(request.reference, _credentials(request))
        return Frame(exposed_ports=dispatcher_pb2.ExposedPorts(ports=config.exposed_ports))

    async def _list(self, queue: Queue) -> None:
        stored = await self._images.stored()
        used_by = users(self._worker.records.values(), stored.images)
        report, size = dispatcher_pb2.ImageReport(), 0
        steps = steps_of(stored.images)
        for image in stored.images:
            report.images.append(_shown(image, used_by[image.id]))
            report.images[-1].step = image.id in steps and not used_by[image.id]
            size += report.images[-1].ByteSize()
            if size > _PART_BYTES:
                await queue.put(Frame(image_report=report))
                report, size = dispatcher_pb2.ImageReport(), 0
        total, free = await asyncio.to_thread(self._collector.space)
        report.use.CopyFrom(
            dispatcher_pb2.ImageUse(
                bytes=stored.bytes,
                loose_bytes=sum(layer.bytes for layer in stored.loose),
                disk_bytes=total,
                disk_free=free,
                loose=len(stored.loose),
                reclaimable=reclaimable(stored.images, lambda image: bool(used_by[image.id])),
            )
        )
        await queue.put(Frame(image_report=report))

    async def _delete(self, request: images_pb2.ImageDelete, queue: Queue) -> None:
        if request.loose:
            freed = await self._collector.prune_loose()
            await queue.put(Frame(image_deleted=images_pb2.ImageDeleted(reclaimed_bytes=freed)))
        for one in request.images:
            told = images_pb2.ImageDeleted(id=one.id)
            before = (await self._images.stored()).images if request.parents else ()
            try:
                if request.unneeded:
                    removed = await self._collector.prune(one.id)
                else:
                    in_use = self._worker.images_in_use()
                    removed = await self._images.delete(one.id, tuple(one.names), in_use)
            except ImageError as error:
                told.error = str(error)
            else:
                if removed is None:
                    continue
                told.untagged.extend(removed.untagged)
                told.deleted, told.reclaimed_bytes = removed.deleted, removed.reclaimed_bytes
                if removed.deleted:
                    await self._delete_parents(one.id, before, told)
            await queue.put(Frame(image_deleted=told))

    async def _delete_parents(
        self, image_id: str, before: Sequence[Image], told: images_pb2.ImageDeleted
    ) -> None:
        """Delete the images of the steps of an image that is gone. A build may be using them."""
        builds = self._images.builds
        if builds is not None and builds.running:
            return
        for parent in parents_of(image_id, before, self._worker.images_in_use()):
            try:
                removed = await self._images.delete(parent)
            except ImageError:
                return
            told.parents.append(parent)
            told.reclaimed_bytes += removed.reclaimed_bytes

    async def _details(self, image_id: str) -> dispatcher_pb2.TunnelFrame:
        blob = await self._images.blob(image_id)
        if len(blob.config) > _CONFIG_BYTES:
            raise ImageError(f"its configuration has more than {_CONFIG_BYTES} bytes")
        details = images_pb2.ImageDetails(config=blob.config, layer_sizes=blob.layer_sizes)
        return Frame(image_details=details)


def _shown(image: Image, used_by: Sequence[str]) -> dispatcher_pb2.Image:
    message = dispatcher_pb2.Image(
        id=image.id,
        digest=image.digest,
        names=image.names,
        size_bytes=image.size_bytes,
        created=image.created,
        unique_bytes=image.unique_bytes,
        used_by=used_by,
        platform=image.platform,
    )
    labels = image.config.labels
    if sum(len(key) + len(value) for key, value in labels.items()) <= _LABEL_BYTES:
        message.labels.update(labels)
    return message


def _credentials(
    request: dispatcher_pb2.ImagePull | dispatcher_pb2.ImageResolve,
) -> Credentials | None:
    if not request.username:
        return None
    return Credentials(username=request.username, password=request.password)


def _reporter(queue: Queue, reference: str) -> Callable[[PullProgress], None]:
    def report(progress: PullProgress) -> None:
        if queue.full():
            return
        layers = [
            images_pb2.LayerProgress(
                id=layer.id,
                state=layer.state.value,
                done_bytes=layer.done_bytes,
                total_bytes=layer.total_bytes,
            )
            for layer in progress.layers
        ]
        told = dispatcher_pb2.ImageProgress(
            status=progress.phase.value,
            done_bytes=progress.bytes,
            total_bytes=progress.total_bytes,
            layers=layers,
            reference=reference,
        )
        queue.put_nowait(Frame(image_progress=told))

    return report
