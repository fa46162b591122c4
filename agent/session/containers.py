"""What users request of containers: processes, changed files, sizes, pauses. SHELL.

A pause is in the task's record before the processes freeze: from then on no check is made, which
would fail. Where an agent dies in between, the next one takes over what the container is.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing

from agent.files.changes import Change, changes
from agent.files.sizes import TooMany, written
from agent.images.base import Images
from agent.runtime.base import NotRunning, Runtime, RuntimeFailed
from agent.tasks.events import PauseChanged
from agent.tasks.record import Record
from agent.worker import Worker
from pyswarm_core.aio.archives.pulling import batches, pulled
from pyswarm_core.api.v1 import dispatcher_pb2, files_pb2
from pyswarm_core.errors import Conflict, NotFound, Unavailable
from pyswarm_core.ids import TaskId
from pyswarm_core.plaintext import as_utf8

_THREADS = 2
_CHANGES_PER_FRAME = 500

CONTAINER_KINDS = frozenset({"top", "changes", "pause", "sizes"})
"""The kinds of OpenTunnel that are answered here."""

Frame = dispatcher_pb2.TunnelFrame
Put = Callable[[dispatcher_pb2.TunnelFrame], Awaitable[None]]


class Containers:
    """The containers of this host's tasks. Close it at the end."""

    def __init__(self, worker: Worker, runtime: Runtime, images: Images) -> None:
        self._worker = worker
        self._images = images
        self._runtime = runtime
        self._threads = ThreadPoolExecutor(_THREADS, "files")

    def close(self) -> None:
        """End the threads, without waiting for a file system that hangs."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def answer(
        self, request: dispatcher_pb2.OpenTunnel, put: Put, group: asyncio.TaskGroup
    ) -> None:
        """Answer a request of one of CONTAINER_KINDS. `group` gets work that goes on when the
        caller leaves.
        """
        match request.WhichOneof("kind"):
            case "top":
                await put(await self.top(request.top))
            case "changes":
                async with aclosing(self.changes(request.changes)) as parts:
                    async for part in parts:
                        await put(part)
            case "sizes":
                async with aclosing(self.sizes(request.sizes)) as parts:
                    async for part in parts:
                        await put(part)
            case _:
                await self.pause(request.pause, group)

    async def top(self, request: files_pb2.TopRequest) -> dispatcher_pb2.TunnelFrame:
        """The processes. Raises Conflict if it does not run, InvalidArgument for the options."""
        record = self._running(request.ref)
        try:
            table = await self._runtime.top(record.task_id, tuple(request.options))
        except NotRunning:
            raise _not_running(record) from None
        except RuntimeFailed as error:
            raise Unavailable(str(error)) from error
        rows = [files_pb2.TopRow(cells=map(as_utf8, row)) for row in table.rows]
        return Frame(top=files_pb2.TopReply(titles=table.titles, rows=rows))

    async def changes(
        self, request: files_pb2.ChangesRequest
    ) -> AsyncGenerator[dispatcher_pb2.TunnelFrame]:
        """The files that differ from the image, in parts. Raises NotFound without a container."""
        record = self._record(request.ref)
        try:
            rootfs = await self._runtime.rootfs(record.task_id, record.layer)
        except RuntimeFailed as error:
            raise NotFound(str(error)) from error
        with closing(rootfs):
            work = batches(changes(rootfs), _CHANGES_PER_FRAME)
            async with aclosing(pulled(self._threads, work)) as parts:
                async for part in parts:
                    yield Frame(changes=files_pb2.ChangesReply(changes=map(_change, part)))

    async def sizes(
        self, request: files_pb2.SizesRequest
    ) -> AsyncGenerator[dispatcher_pb2.TunnelFrame]:
        """The sizes of the containers that have files here, each as it is measured."""
        stored = await self._images.stored()
        of_images = {image.id: image.size_bytes for image in stored.images}
        for task_id in request.task_ids:
            record = self._worker.records.get(TaskId(task_id))
            if record is None or (size := await self._written(record)) is None:
                continue
            image = of_images.get(record.image_id, 0)
            found = files_pb2.ContainerSize(task_id=task_id, written_bytes=size, image_bytes=image)
            yield Frame(sizes=files_pb2.SizesReply(sizes=[found]))

    async def _written(self, record: Record) -> int | None:
        """The bytes of its writable layer; None: it has none; negative: it has too many files."""
        try:
            rootfs = await self._runtime.rootfs(record.task_id, record.layer)
        except RuntimeFailed:
            return None
        size = 0
        with closing(rootfs):
            try:
                async with aclosing(pulled(self._threads, written(rootfs))) as parts:
                    async for so_far in parts:
                        size = so_far
            except TooMany:
                return -1
            except OSError:  # it was removed meanwhile
                return None
        return size

    async def pause(self, request: files_pb2.PauseRequest, group: asyncio.TaskGroup) -> None:
        """Freeze its processes, or have them go on; also if the caller leaves in between.

        Raises Conflict if it does not run, or is so already.
        """
        record = self._running(request.ref)
        if request.paused and record.stops:
            raise Conflict(f"container {record.name} is being stopped")
        if request.paused is record.detail.paused:
            raise Conflict(
                f"container {record.name} is {'already' if request.paused else 'not'} paused"
            )
        change = self._freeze if request.paused else self._thaw
        if error := await asyncio.shield(group.create_task(change(record.task_id))):
            raise Unavailable(str(error)) from error

    async def _freeze(self, task_id: TaskId) -> RuntimeFailed | None:
        self._worker.handle(task_id, PauseChanged(paused=True))
        try:
            await self._runtime.pause(task_id)
        except RuntimeFailed as error:
            self._worker.handle(task_id, PauseChanged(paused=False))
            return error
        return None

    async def _thaw(self, task_id: TaskId) -> RuntimeFailed | None:
        try:
            await self._runtime.resume(task_id)
        except RuntimeFailed as error:
            return error
        self._worker.handle(task_id, PauseChanged(paused=False))
        return None

    def _record(self, ref: str) -> Record:
        record = self._worker.records.get(TaskId(ref))
        if record is None:
            raise NotFound(f"task {ref} is not on this node")
        return record

    def _running(self, ref: str) -> Record:
        record = self._record(ref)
        if not record.process_runs:
            raise _not_running(record)
        return record


def _not_running(record: Record) -> Conflict:
    return Conflict(f"container {record.name} is not running")


def _change(change: Change) -> files_pb2.FileChange:
    return files_pb2.FileChange(kind=change.kind, path=as_utf8(change.path))
