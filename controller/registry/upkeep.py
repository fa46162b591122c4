"""The registry's storage: what it uses, what may be pushed, and collections of garbage. SHELL.

The distribution's collector removes blobs that no manifest names: those of a push that has not
ended too. So it runs while no user pushes, and those that begin meanwhile wait for it. Reading goes
on. A connection that is open and idle keeps no collection away: what it had sent without a manifest
is then removed, and the registry refuses a manifest that names it.
"""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from msgspec.structs import replace

from controller.registry.contents import superfluous, usage_of
from controller.registry.storage import RegistryStorage
from pyswarm_core.aio.daemon import to_its_end
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import Clock
from pyswarm_core.docker.units import counted, decimal_size
from pyswarm_core.errors import Conflict, Exhausted, Unavailable
from pyswarm_core.registry.usage import RegistryUsage

P = ParamSpec("P")
R = TypeVar("R")
Needed = Callable[[], Awaitable[Collection[str]]]
_log = EventLog("controller.registry")

COLLECT_S = 600.0
"""The longest collection."""
WAIT_S = 120.0
"""The longest wait of a writer for a collection, and of a collection for writers."""
IDLE_S = 60.0
"""A connection without a byte for this long keeps no collection away: less than WAIT_S."""
HELD_S = 24 * 3600.0
"""Nor does one that has been busy for this long: the distribution removes older uploads."""
FRESH_S = 10.0
"""The age of a size that decides about pushes."""
ROOM_LEAST = 64 * 1024 * 1024
"""Bytes that pushes leave free on the disk, which may be that of the controller's etcd."""
_REMEDY = (
    "Remove images with `pyswarm image rm`, and free the space of those that are older than an hour"
    " with `pyswarm system prune -a`; otherwise that is done once a day"
)


class Writer:
    """A caller that may push. It is busy from each request until no byte has come for IDLE_S, for
    HELD_S at most; an idle one waits for a collection before its next request.
    """

    def __init__(self, admitted: Callable[[], Awaitable[None]]) -> None:
        """`admitted` returns when no collection runs."""
        self._admitted = admitted
        self._began = self._touched = -HELD_S

    def busy_s(self) -> float:
        """Seconds for which it is busy if no more comes; 0 or less: it is idle."""
        return min(self._touched + IDLE_S, self._began + HELD_S) - _now()

    def touch(self) -> None:
        """Bytes of a request have come. Of an idle one they do not count."""
        if self.busy_s() > 0:
            self._touched = _now()

    async def renew(self) -> None:
        """A request begins. Raises Unavailable if a collection takes too long."""
        if self.busy_s() <= 0:
            await self._admitted()
            self._began = self._touched = _now()
        self._touched = _now()


class RegistryUpkeep:
    """The storage below `root`. `quota`: bytes above which pushes are refused; 0: none. `collector`
    returns the command line of a collection.
    """

    def __init__(
        self, root: Path, quota: int, clock: Clock, collector: Callable[[], list[str]]
    ) -> None:
        self.storage = RegistryStorage(root)
        self._quota = quota
        self._clock = clock
        self._collector = collector
        self._writers: dict[Writer, None] = {}
        self._left = asyncio.Event()
        self._collecting = asyncio.Lock()
        self._measuring = asyncio.Lock()
        self._sized_at = -FRESH_S
        self._size = 0

    @asynccontextmanager
    async def writing(self) -> AsyncIterator["Writer"]:
        """Keep collections away while the block runs and its writer is busy. Raises Unavailable if
        one takes too long.
        """
        writer = Writer(self._admitted)
        await writer.renew()
        self._writers[writer] = None
        try:
            yield writer
        finally:
            del self._writers[writer]
            self._left.set()

    async def _admitted(self) -> None:
        """Return when no collection runs. Raises Unavailable if one takes too long."""
        try:
            async with asyncio.timeout(WAIT_S):
                async with self._collecting:
                    pass
        except TimeoutError:
            text = f"the fleet's registry has collected garbage for {WAIT_S:g} s: try again later"
            raise Unavailable(text) from None

    async def _until_idle(self) -> None:
        """Return when nobody pushes. Raises TimeoutError."""
        async with asyncio.timeout(WAIT_S):
            while (left_s := max((one.busy_s() for one in self._writers), default=0.0)) > 0:
                self._left.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._left.wait(), left_s)

    async def require_room(self, came: int = 0) -> None:
        """Raise Exhausted if no more may be pushed. `came`: bytes since the last call."""
        self._size += came
        free = await asyncio.to_thread(self.storage.free)
        if free < ROOM_LEAST:
            raise Exhausted(
                f"no space left for images: the fleet's registry has {decimal_size(free)} free on"
                f" its controller's disk. {_REMEDY}"
            )
        if not self._quota:
            return
        now = _now()
        if now - self._sized_at > FRESH_S:
            self._size, self._sized_at = await asyncio.to_thread(self.storage.held), now
        if self._size > self._quota:
            raise Exhausted(
                f"the fleet's registry has {decimal_size(self._size)} of images, its quota is"
                f" {decimal_size(self._quota)}. {_REMEDY}"
            )

    async def tags(self) -> list[tuple[str, str, str]]:
        """Each tag as repository, tag and digest."""
        return await self._in_thread(self.storage.tags)

    async def usage(self, needed: Collection[str]) -> RegistryUsage:
        """What it uses, and what a collection would free. `needed`: as `usage_of`."""
        return await self._in_thread(self._usage, needed)

    async def collect(self, needed: Needed) -> int:
        """Remove what no tag and no service needs; return the bytes that are free now. `needed`
        returns the digests that services name: it is called once nobody pushes, which may take
        minutes.

        Raises Conflict while users push, or another collection runs; Unavailable if it failed.
        """
        if self._collecting.locked():
            raise Conflict("another collection of garbage is running")
        async with self._collecting:
            try:
                await self._until_idle()
            except TimeoutError:
                number = sum(one.busy_s() > 0 for one in self._writers)
                who = counted(number, "connection")
                text = f"no garbage is collected while {who} may push images: try again later"
                raise Conflict(text) from None
            if not (before := await asyncio.to_thread(self.storage.size)):
                return 0
            await to_its_end(self._forget, await needed())
            await self._sweep()
            after = await asyncio.to_thread(self.storage.size)
        self._sized_at = -FRESH_S
        _log.info("registry.collected", freed_bytes=before - after, bytes=after)
        return max(0, before - after)

    async def _in_thread(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What reads all of the storage, one at a time. A call that is cancelled waits for its
        thread: callers that come and go must not fill the pool that all threads share.
        """
        async with self._measuring:
            call = partial(work, *args, **kwargs)
            working = asyncio.get_running_loop().run_in_executor(None, call)
            try:
                return await asyncio.shield(working)
            except asyncio.CancelledError:
                await asyncio.wait({working})
                raise

    def _usage(self, needed: Collection[str]) -> RegistryUsage:
        total, free = self.storage.disk()
        found = usage_of(self.storage.contents(), needed, self._clock.now())
        return replace(found, disk_bytes=total, disk_free=free, quota=self._quota)

    def _forget(self, needed: Collection[str]) -> None:
        contents = self.storage.contents()
        self.storage.remove_manifests(superfluous(contents, needed, self._clock.now()))

    async def _sweep(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", "--", *self._collector()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(COLLECT_S):
                _, errors = await process.communicate()
        except BaseException as error:
            if process.returncode is None:
                process.kill()
                await process.wait()
            if isinstance(error, TimeoutError):
                raise Unavailable(f"the collection did not end within {COLLECT_S:g} s") from None
            raise
        if process.returncode:
            reason = " ".join(errors.decode(errors="replace").split())[-300:]
            raise Unavailable(f"the collection of garbage failed: {reason}")


def _now() -> float:
    return asyncio.get_running_loop().time()
