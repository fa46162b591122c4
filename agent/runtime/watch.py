"""Waiting for files to change and processes to end, without a thread or a timer each. SHELL.

A default host has few inotify instances (128 for all of root, and each conmon may take one), so a
watch that gets none polls; callers check the file again after every wait.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from asyncinotify import Inotify, Mask

from agent.runtime import procs
from agent.runtime.procs import Process

_POLL_S = 0.25
_READ_BYTES = 1 << 16


class FileWatch:
    """Waits for a change of a file, or of an entry of a directory."""

    def __init__(self, path: Path, mask: Mask) -> None:
        self._inotify: Inotify | None = None
        try:
            self._inotify = Inotify()
            self._inotify.add_watch(path, mask)
        except OSError:
            self.close()

    def __enter__(self) -> "FileWatch":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the inotify instance."""
        if self._inotify:
            self._inotify.close()
            self._inotify = None

    async def changed(self, timeout_s: float) -> None:
        """Return at the next change, after `timeout_s` at the latest."""
        if self._inotify is None:
            await asyncio.sleep(min(_POLL_S, timeout_s))
            return
        loop, descriptor = asyncio.get_running_loop(), self._inotify.fd
        ready = asyncio.Event()
        loop.add_reader(descriptor, ready.set)
        try:
            async with asyncio.timeout(timeout_s):
                await ready.wait()
        except TimeoutError:
            return
        finally:
            loop.remove_reader(descriptor)
        # Discard the queued events: the caller checks everything. Does not block: there are some.
        os.read(descriptor, _READ_BYTES)


class MonitorWatch:
    """Calls back once for each monitor that ends, and reaps those that are our children."""

    def __init__(self, ended: Callable[[str], None]) -> None:
        self._ended = ended
        self._watched: dict[str, int] = {}

    def watch(self, container_id: str, monitor: Process) -> None:
        """Begin to watch; an ended monitor is reported at once. A repeated call does nothing."""
        if container_id in self._watched:
            return
        descriptor = procs.open_ended(monitor)
        if descriptor is None:
            self._ended(container_id)
            return
        self._watched[container_id] = descriptor
        loop = asyncio.get_running_loop()
        loop.add_reader(descriptor, self._gone, container_id, descriptor)

    def _gone(self, container_id: str, descriptor: int) -> None:
        asyncio.get_running_loop().remove_reader(descriptor)
        procs.reap(descriptor)
        os.close(descriptor)
        self._watched.pop(container_id, None)
        self._ended(container_id)

    def close(self) -> None:
        """Stop watching; the monitors keep running."""
        loop = asyncio.get_running_loop()
        for descriptor in self._watched.values():
            loop.remove_reader(descriptor)
            os.close(descriptor)
        self._watched.clear()
