"""The volumes of two hosts in this process, and archives between them."""

import asyncio
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agent.streams.base import Link
from agent.streams.direct.connection import Own
from agent.streams.serving import Streams
from agent.volumes.files import VolumeFiles
from agent.volumes.store import VolumeStore
from agent.volumes.volumes import Volumes
from pyswarm_core.errors import Unavailable
from pyswarm_core.streams.failures import error_in
from pyswarm_core.streams.frames import (
    STDOUT,
    Data,
    Digest,
    Exit,
    Frame,
    HalfClose,
    Started,
    Window,
)
from pyswarm_core.streams.limits import STREAM_FRAME_BYTES
from pyswarm_core.streams.requests import ReadVolumeRequest, WriteVolumeRequest

ID = "v1"
WAIT_S = 50.0
PART = 100_000


class Host:
    """The volumes of one host. `tasks` are the names of those that have the volume."""

    def __init__(self, top: Path) -> None:
        self.state = top / "state"
        self.store = VolumeStore(self.state)
        self.store.prepare()
        self.volumes = Volumes(self.store, top / "run", lambda task_id: top / task_id)
        self.tasks: list[str] = []
        self._calls: asyncio.Queue[Frame] = asyncio.Queue()
        self.files = VolumeFiles(self.volumes, top / "run", self._records)
        self.own: Own | None = None
        """What it shows to other agents; without it archives go through the leader."""
        self.received = 0
        """Bytes of the archive that is read."""
        self.streams = Streams(None, None, dict, None, self.files, own=lambda: self.own)  # type: ignore[arg-type]

    def _records(self) -> dict[Any, Any]:
        return {
            name: SimpleNamespace(name=name, clean=False, ended=False, volumes={"data": ID})
            for name in self.tasks
        }

    def close(self) -> None:
        """End its threads."""
        self.files.close()
        self.volumes.close()

    @property
    def data(self) -> Path:
        """The files of the volume."""
        return self.state / "volumes" / ID / "_data"

    def make(self) -> Path:
        """An empty volume."""
        filling = self.store.begin(ID)
        return self.store.finish(ID, "data", filling)

    def left(self) -> list[str]:
        """What is in the volume's directory."""
        return sorted(path.name for path in (self.state / "volumes" / ID).iterdir())

    def grant(self, count: int) -> None:
        """The reader accepts so many more bytes."""
        self._calls.put_nowait(Window(STDOUT, count))

    async def read(self, *, limit: int = 1 << 62, **options: Any) -> tuple[bytes, list[Frame]]:
        """The archive of the volume, or its beginning, and the other frames."""
        data, frames = bytearray(), list[Frame]()
        ended, self.received = asyncio.Event(), 0
        calls = self._calls = asyncio.Queue[Frame]()
        self.grant(limit)

        async def send(frame: Frame) -> None:
            if isinstance(frame, Data):
                data.extend(frame.data)
                self.received = len(data)
            else:
                frames.append(frame)
            if isinstance(frame, Exit):
                ended.set()

        request = ReadVolumeRequest(ref=ID, volume="data", **options)
        link = Link(send, calls.get, STREAM_FRAME_BYTES)
        async with asyncio.timeout(WAIT_S):
            await _until(self.streams.serve(request, link), ended)
        for frame in frames:
            if isinstance(frame, Exit) and (error := error_in(frame)):
                raise error
        return bytes(data), frames

    async def write(
        self, archive: bytes, *, digest: Digest | None = None, cut: bool = False, **options: Any
    ) -> None:
        """Replace the volume by an archive. With `cut` the sender goes before its end."""
        told = digest or Digest(sha256(archive).digest(), len(archive))
        sending = Sending(archive, told, cut=cut)
        request = WriteVolumeRequest(ref=ID, volume="data", **options)
        async with asyncio.timeout(WAIT_S):
            await _until(self.streams.serve(request, sending.link), sending.ended)
        if error := error_in(sending.exit):
            raise error


class Sending:
    """The sender of one archive."""

    def __init__(self, archive: bytes, digest: Digest, *, cut: bool) -> None:
        self._left = memoryview(archive)
        self._digest = digest
        self._cut = cut
        self.credit = 0
        self.granted = asyncio.Event()
        self._last: list[Frame] = [HalfClose(STDOUT), digest]
        self.paused = False
        """Whether it sends nothing."""
        self.ended = asyncio.Event()
        self.exit = Exit(1, "no exit")
        self.link = Link(self._receive, self._next, STREAM_FRAME_BYTES)

    async def _receive(self, frame: Frame) -> None:
        if isinstance(frame, Window):
            self.credit += frame.credit
            self.granted.set()
        elif isinstance(frame, Exit):
            self.exit = frame
            self.ended.set()
        else:
            assert isinstance(frame, Started)

    async def _next(self) -> Frame:
        if self.paused:
            await asyncio.Event().wait()
        if not self._left:
            if self._cut:
                raise Unavailable("the caller is gone")
            if self._last:
                return self._last.pop()
            await asyncio.Event().wait()
        while not self.credit:
            self.granted.clear()
            await self.granted.wait()
        size = min(self.credit, PART)
        part, self._left = bytes(self._left[:size]), self._left[size:]
        self.credit -= len(part)
        return Data(STDOUT, part)


async def _until(serving: Any, ended: asyncio.Event) -> None:
    """Serve until the exit was sent; what the server raises is raised."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(serving)
        waiting = group.create_task(ended.wait())
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        task.cancel()
        waiting.cancel()
