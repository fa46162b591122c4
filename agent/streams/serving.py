"""The byte streams that callers open to the tasks of this host. SHELL."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from agent.health.connecting import OpenSocket
from agent.runtime.base import NotRunning, Runtime
from agent.runtime.running.attachments import Attachments
from agent.streams.attaching import serve_attach
from agent.streams.base import Link
from agent.streams.commands import serve_command
from agent.streams.forwarding import Forwards, destination
from agent.tasks.record import Record
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.errors import Conflict, Exhausted
from pyswarm_core.ids import TaskId
from pyswarm_core.streams.limits import STREAM_FRAMES_NODE, STREAMS_PER_NODE
from pyswarm_core.streams.requests import (
    AttachRequest,
    BuildImageRequest,
    ExecRequest,
    FileRequest,
    OpeningRequest,
    PortForwardRequest,
    PushImageRequest,
    ReadVolumeRequest,
    SaveImageRequest,
    TaskRequest,
    VolumeRequest,
    WriteVolumeRequest,
)
from pyswarm_core.streams.windows import frame_bytes

if TYPE_CHECKING:
    from agent.files.copying import Copies
    from agent.images.base import Images
    from agent.streams.direct.connection import Own
    from agent.streams.volumes import Host
    from agent.volumes.files import VolumeFiles

_log = EventLog("agent.streams")


class Streams:
    """Serves the byte streams of one host, at most STREAMS_PER_NODE at once. `records` returns the
    host's tasks, `open_socket` takes a descriptor of a network namespace, `volumes` and `images`
    are those of the host, `own` is what it shows to other agents. Used as a context manager.
    """

    def __init__(
        self,
        runtime: Runtime,
        attachments: Attachments,
        records: Callable[[], Mapping[TaskId, Record]],
        open_socket: OpenSocket,
        volumes: "VolumeFiles | None" = None,
        *,
        own: "Callable[[], Own | None]" = lambda: None,
        images: "Images | None" = None,
    ) -> None:
        self._own = own
        self._volumes = volumes
        self._images = images
        self._runtime = runtime
        self._attachments = attachments
        self._forwards = Forwards(open_socket)
        self._records = records
        self._copies: Copies | None = None
        self._host: Host | None = None
        self._group = asyncio.TaskGroup()
        self._kept: set[asyncio.Task[None]] = set()
        """Commands whose callers detached, and work of this agent's own."""
        self.open = 0
        """Streams that are served now."""

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        if self._volumes is not None:
            self._kept.add(self._group.create_task(self._volumes.tidy()))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the commands whose callers detached."""
        if self._copies is not None:
            self._copies.close()
        if self._host is not None:
            self._host.copies.close()
            self._host.direct.close()
        for task in self._kept:
            task.cancel()
        await self._group.__aexit__(kind, error, traceback)

    async def serve(self, request: OpeningRequest, link: Link) -> None:
        """Serve one stream until it ends. Cancelling it ends what it began.

        Raises PyswarmError, which becomes the end of the caller's stream.
        """
        if self.open >= STREAMS_PER_NODE:
            raise Exhausted(
                f"{self.open} streams to tasks of this node are open, which is the limit: end some"
            )
        self.open += 1
        frame_max = min(link.frame_bytes, frame_bytes(STREAM_FRAMES_NODE, self.open))
        try:
            await self._serve(request, link._replace(frame_bytes=frame_max))
        finally:
            self.open -= 1

    async def _serve(self, request: OpeningRequest, link: Link) -> None:
        match request:
            case ReadVolumeRequest() | WriteVolumeRequest():
                await self._serve_volume(request, link)
            case SaveImageRequest():
                await self._save(request, link)
            case BuildImageRequest():
                await self._build(request, link)
            case PushImageRequest():
                await self._push(request, link)
            case _:
                await self._serve_task(request, link)

    async def _serve_task(self, request: TaskRequest, link: Link) -> None:
        task_id = TaskId(request.ref)

        def find() -> Record | None:
            return self._records().get(task_id)

        if isinstance(request, AttachRequest):
            await serve_attach(self._runtime, self._attachments, request, find, link)
            return
        record = find()
        if record is None or not (record.process_runs or isinstance(request, FileRequest)):
            raise Conflict("the task's process does not run")
        match request:
            case ExecRequest():
                await serve_command(self._runtime, request, link, self._keep)
            case PortForwardRequest():
                await self._forward(record, request, link)
            case _:
                await self._copy(record, request, link)

    async def _forward(self, record: Record, request: PortForwardRequest, link: Link) -> None:
        try:
            process, pid = self._runtime.process(request.ref)
        except NotRunning as error:
            raise Conflict(str(error)) from error
        address = next((one.address for one in record.detail.addresses), "")
        with destination(process, pid, address) as to:
            await self._forwards.serve(to, request.port, link)

    async def _copy(self, record: Record, request: FileRequest, link: Link) -> None:
        # Imported with the first copy: archives take 1.4 MB of memory, which most agents never use.
        from agent.files.copying import Copies
        from agent.streams.copying import serve_copy

        if self._copies is None:
            self._copies = Copies()
        await serve_copy(self._runtime, self._copies, record, request, link)

    async def _serve_volume(self, request: VolumeRequest, link: Link) -> None:
        from agent.files.copying import Copies
        from agent.streams.direct.direct import Direct
        from agent.streams.volumes import Host, serve_volume

        if self._volumes is None:
            raise Conflict("this agent has no volumes")
        if self._host is None:  # a volume that hangs must not stop copies of containers
            self._host = Host(self._volumes, Copies(), Direct(self._own, self._begin))
        await serve_volume(self._host, request, link)

    async def _save(self, request: SaveImageRequest, link: Link) -> None:
        from agent.streams.images import serve_save

        if self._images is None:
            raise Conflict("this agent has no images")
        await serve_save(self._images, request, link)

    async def _build(self, request: BuildImageRequest, link: Link) -> None:
        from agent.streams.building import serve_build

        if self._images is None or self._images.builds is None:
            raise Conflict("this agent has no images")
        await serve_build(self._images.builds, request, link)

    async def _push(self, request: PushImageRequest, link: Link) -> None:
        from agent.streams.pushing import serve_push

        if self._images is None:
            raise Conflict("this agent has no images")
        await serve_push(self._images, request, link)

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        self._begin(work)

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        async def kept() -> None:
            try:
                await work
            except Exception as error:
                _log.error("stream.internal_error", trace=True, error=error)

        task = self._group.create_task(kept())
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)
        return task
