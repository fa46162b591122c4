"""The real runtime: crun (or runc) makes containers, conmon monitors them. SHELL.

This is the asyncio half; `steps.py` does the blocking work in a few threads. Invariant: this object
holds only watches; closing it, or killing the process, affects no container.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from asyncinotify import Mask

from agent.runtime import logrotate, procs
from agent.runtime.base import (
    Attachment,
    CgroupLimits,
    Command,
    CommandResult,
    ContainerConfig,
    ContainerExit,
    FoundContainer,
    OpenCommand,
    ProcessTable,
    Rootfs,
    RuntimeFailed,
)
from agent.runtime.cgroups import Hierarchies
from agent.runtime.conmon import Binaries
from agent.runtime.layout import Layout
from agent.runtime.procs import Process
from agent.runtime.running import attached, edits, execs
from agent.runtime.running.execs import Running
from agent.runtime.running.opened import Opened
from agent.runtime.steps import Steps
from agent.runtime.watch import FileWatch, MonitorWatch
from pyswarm_core.aio.logs import EventLog

_log = EventLog("agent.runtime")

P = ParamSpec("P")
T = TypeVar("T")

_EXITS_PERIOD_S = 10.0
_THREADS = 8
_SIGNAL_THREADS = 2
_SETTLE_RETRY_S = 5.0


class ConmonRuntime:
    """`Runtime` over conmon and crun. Made inside a running event loop; `close` it there."""

    def __init__(self, binaries: Binaries, layout: Layout, hierarchies: Hierarchies) -> None:
        self._layout = layout
        self._hierarchies = hierarchies
        self._loop = asyncio.get_running_loop()
        self._monitors = MonitorWatch(self._monitor_ended)
        self._steps = Steps(binaries, layout, hierarchies, self._watch_monitor)
        # A removal may wait for a process to end; it must not delay new containers.
        self._making = ThreadPoolExecutor(_THREADS, "make", self._steps.enter_thread)
        self._ending = ThreadPoolExecutor(_THREADS, "end")
        # A command may wait for a process that hangs in the kernel: it must not delay containers.
        self._commands = ThreadPoolExecutor(_THREADS, "exec", self._steps.enter_thread)
        self._ending_commands = ThreadPoolExecutor(_THREADS, "end-exec")
        # A log file must be kept before conmon replaces the next one.
        self._logging = ThreadPoolExecutor(1, "logs")
        # Signals have threads of their own: SIGKILL has a deadline.
        self._signalling = ThreadPoolExecutor(_SIGNAL_THREADS, "signal")

    def close(self) -> None:
        """Stop watching and end the threads; containers stay as they are."""
        self._monitors.close()
        for pool in (
            self._making,
            self._ending,
            self._commands,
            self._ending_commands,
            self._logging,
            self._signalling,
        ):
            pool.shutdown(wait=True)

    def file_path(self, container_id: str, name: str) -> str:
        """See `Runtime`."""
        return str(self._layout.bundle(container_id) / "files" / name)

    async def edit_file(self, container_id: str, name: str, edit: Callable[[bytes], bytes]) -> None:
        """See `Runtime`."""
        path = Path(self.file_path(container_id, name))
        await self._run(self._ending, edits.edit, path, edit)

    def log_path(self, container_id: str) -> str:
        """See `Runtime`."""
        return str(self._layout.log(container_id))

    async def create(self, config: ContainerConfig) -> int:
        """See `Runtime`."""
        return await self._run(self._making, self._steps.create, config)

    async def start(self, container_id: str) -> None:
        """See `Runtime`."""
        await self._run(self._making, self._steps.start, container_id)

    async def kill(self, container_id: str, signal: int, *, everyone: bool = False) -> None:
        """See `Runtime`."""
        await self._run(self._signalling, self._steps.kill, container_id, signal, everyone)

    async def remove(self, container_id: str, *, keep_logs: bool = True) -> None:
        """See `Runtime`."""
        await self._run(self._ending, self._steps.remove, container_id, keep_logs)

    async def layers(self) -> tuple[str, ...]:
        """See `Runtime`."""
        return await self._run(self._ending, self._layout.layer_ids)

    async def remove_layer(self, layer: str) -> None:
        """See `Runtime`."""
        await self._run(self._ending, self._steps.remove_layer, layer)

    async def found(self) -> tuple[FoundContainer, ...]:
        """See `Runtime`. Also watches the monitors that a former agent started."""
        return await self._run(self._ending, self._steps.found)

    async def exits(self) -> AsyncIterator[ContainerExit]:
        """See `Runtime`."""
        yielded: frozenset[tuple[str, int]] = frozenset()
        with FileWatch(self._layout.exits, Mask.MOVED_TO | Mask.CLOSE_WRITE) as watch:
            while True:
                ended = self._layout.ends()
                for container_id, _ in sorted(ended - yielded):
                    exit_ = self._layout.read_exit(container_id, self._hierarchies)
                    if exit_ is not None:
                        yield exit_
                yielded = ended
                await watch.changed(_EXITS_PERIOD_S)

    async def exec(self, container_id: str, command: Command, timeout_s: float) -> CommandResult:
        """See `Runtime`."""
        running = await self._begun(container_id, command, opened=False)
        try:
            output, timed_out = await execs.wait(running, timeout_s)
        except asyncio.CancelledError:
            with suppress(RuntimeFailed):
                await asyncio.shield(self._end_command(running, b"", True))
            raise
        if not timed_out and self._steps.execs.is_over(running):
            return self._steps.execs.end(running, output, timed_out=False)
        return await asyncio.shield(self._end_command(running, output, timed_out))

    async def open(self, container_id: str, command: Command) -> OpenCommand:
        """See `Runtime`."""
        running = await self._begun(container_id, command, opened=True)
        return Opened(running, self._end_opened)

    async def attach(self, container_id: str) -> Attachment:
        """See `Runtime`."""
        record = self._layout.read_record(container_id)
        if record is None or not procs.is_alive(record.container):
            raise RuntimeFailed(f"container {container_id} is not running")
        bundle = self._layout.bundle(container_id)
        return await attached.attach(bundle, record.container.pid, record.monitor.pid)

    async def _begun(self, container_id: str, command: Command, *, opened: bool) -> Running:
        begun = self._commands.submit(self._steps.begin_exec, container_id, command, opened=opened)
        try:
            return await asyncio.wrap_future(begun)
        except asyncio.CancelledError:
            begun.add_done_callback(self._end_abandoned)
            raise

    async def _end_opened(self, running: Running, kill: bool) -> CommandResult:
        if not kill and self._steps.execs.is_over(running):
            return self._steps.execs.end(running, b"", timed_out=False)
        if not kill:
            await self._run(self._ending_commands, self._steps.execs.leave, running)
        return await asyncio.shield(self._end_command(running, b"", kill))

    async def _end_command(self, running: Running, output: bytes, timed_out: bool) -> CommandResult:
        return await self._run(
            self._ending_commands, self._steps.execs.end, running, output, timed_out=timed_out
        )

    def _end_abandoned(self, begun: "Future[Running]") -> None:
        """Called in any thread, for a command whose caller was cancelled while it began."""
        if not begun.cancelled() and not begun.exception():
            self._ending_commands.submit(self._steps.execs.end, begun.result(), b"", timed_out=True)

    async def pause(self, container_id: str) -> None:
        """See `Runtime`."""
        await self._run(self._ending, self._steps.pause, container_id)

    async def resume(self, container_id: str) -> None:
        """See `Runtime`."""
        await self._run(self._ending, self._steps.resume, container_id)

    async def update(self, container_id: str, limits: CgroupLimits) -> None:
        """See `Runtime`."""
        await self._run(self._ending, self._steps.update, container_id, limits)

    def process(self, container_id: str) -> tuple[int, int]:
        """See `Runtime`."""
        return self._steps.process(container_id)

    async def top(self, container_id: str, options: tuple[str, ...]) -> ProcessTable:
        """See `Runtime`."""
        return await self._run(self._ending, self._steps.top, container_id, options)

    async def rootfs(self, container_id: str, layer: str = "", *, writable: bool = False) -> Rootfs:
        """See `Runtime`."""
        found = self._ending.submit(self._steps.rootfs, container_id, layer, writable)
        try:
            return await asyncio.wrap_future(found)
        except asyncio.CancelledError:
            found.add_done_callback(_close)
            raise

    async def tend(self) -> None:
        """See `Runtime`."""
        with FileWatch(self._layout.logs, Mask.MOVED_TO) as watch:
            while True:
                await self._run(self._logging, self._steps.rotate_logs)
                await asyncio.sleep(logrotate.PAUSE_S)
                await watch.changed(logrotate.PERIOD_S)

    async def _run(
        self, pool: ThreadPoolExecutor, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._loop.run_in_executor(pool, lambda: step(*args, **kwargs))

    def _watch_monitor(self, container_id: str, monitor: Process) -> None:
        # Called in a thread; a loop that is closing needs no more watches.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._monitors.watch, container_id, monitor)

    def _monitor_ended(self, container_id: str) -> None:
        """Called in the loop."""
        if (self._layout.exits / container_id).exists():
            return
        with suppress(RuntimeError):
            settled = self._ending.submit(self._steps.settle, container_id)
            settled.add_done_callback(lambda done: self._settled(container_id, done))

    def _settled(self, container_id: str, done: "Future[None]") -> None:
        """Called in a thread. An exit that could not be written (disk full) is tried again."""
        if error := done.exception():
            _log.error("monitor.settle_failed", id=container_id, error=error)
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(
                    self._loop.call_later, _SETTLE_RETRY_S, self._monitor_ended, container_id
                )


def _close(found: "Future[Rootfs]") -> None:
    """Close files that nobody waits for any more."""
    if not found.cancelled() and not found.exception():
        found.result().close()
