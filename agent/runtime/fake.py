"""A runtime in memory for tests: containers follow a script.

It passes the same contract tests as the real one. `Script` defines how a container behaves; without
one it runs until a signal ends it, with code 128 + the signal. Invariant: as in the real one,
`exits` yields an exit until its container is removed.
"""

import asyncio
import os
import signal as signals
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial

import msgspec

from agent.runtime.base import (
    Attachment,
    CgroupLimits,
    Command,
    CommandResult,
    ContainerConfig,
    ContainerExit,
    ContainerState,
    FoundContainer,
    NotRunning,
    OpenCommand,
    ProcessTable,
    Rootfs,
    RuntimeFailed,
)
from pyswarm_core.limits import EXEC_OUTPUT_MAX

_FIRST_PID = 1_000_000


class CommandScript(msgspec.Struct, frozen=True, kw_only=True):
    """How a command in a container behaves."""

    code: int = 0
    output: bytes = b""
    takes_s: float = 0.0
    """Seconds that it runs."""
    writes: str = ""
    """A file that it makes."""
    looks_for: str = ""
    """A file without which its code is 1."""


_NO_PROGRAM = CommandScript(code=127, output=b"no such program in this container")


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """How one container behaves."""

    fails_create: str = ""
    fails_start: str = ""
    exits_after_s: float = -1.0
    """Seconds that it runs; negative: until a signal ends it."""
    exit_code: int = 0
    oom: bool = False
    ignores: frozenset[int] = frozenset()
    """Signals that do not end it. SIGKILL cannot be ignored."""
    commands: Mapping[str, CommandScript] = {}
    """The commands of `exec`, by their first word."""


class _Container(msgspec.Struct):
    config: ContainerConfig
    script: Script
    pid: int
    state: ContainerState = ContainerState.CREATED
    exit: ContainerExit | None = None
    timer: asyncio.TimerHandle | None = None
    limits: CgroupLimits = CgroupLimits()
    paused: bool = False
    files: set[str] = msgspec.field(default_factory=set)
    """Those that were written, if its layer is not kept."""
    pending: int = 0
    """The signal that is delivered when it is resumed; 0: none."""


class _Opened:
    """`OpenCommand` of a script: its output is in the pipe at once."""

    def __init__(self, command: Command, script: CommandScript) -> None:
        self.command = command
        self.killed = False
        self.size = command.rows, command.columns
        self.received, self.stdin = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        """`received` is the program's end of its stdin."""
        self.stdout, self._output = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.stderr, self._errors = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._script = script
        self._signal = asyncio.get_running_loop().create_future()
        if not command.interactive:
            self.close_stdin()
        if script is not _NO_PROGRAM:
            os.write(self._output, script.output)

    @property
    def failure(self) -> str:
        """See `OpenCommand`."""
        return self._script.output.decode() if self._script is _NO_PROGRAM else ""

    def close_stdin(self) -> None:
        """See `OpenCommand`."""
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1

    def resize(self, rows: int, columns: int) -> None:
        """See `OpenCommand`."""
        self.size = rows, columns

    def signal(self, number: int) -> None:
        """See `OpenCommand`."""
        if not self._signal.done():
            self._signal.set_result(number)

    async def wait(self) -> None:
        """See `OpenCommand`."""
        await asyncio.wait([self._signal], timeout=self._script.takes_s)

    async def end(self, *, kill: bool) -> CommandResult:
        """See `OpenCommand`."""
        self.killed = kill
        self.close_stdin()
        for descriptor in (self.received, self.stdout, self._output, self.stderr, self._errors):
            os.close(descriptor)
        if kill:
            return CommandResult(code=128 + signals.SIGKILL, timed_out=True)
        if self._signal.done():
            return CommandResult(code=128 + self._signal.result())
        reason = self._script.output if self._script is _NO_PROGRAM else b""
        return CommandResult(code=self._script.code, output=reason)


class FakeAttachment:
    """`Attachment` whose program is the test."""

    def __init__(self) -> None:
        self.output: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
        """What the program writes; None: it ends."""
        self.stdin = bytearray()
        self.stdin_ended = False
        self.size = 0, 0
        self.left = False

    async def run(self) -> None:
        """See `Attachment`."""

    async def read(self) -> tuple[int, bytes] | None:
        """See `Attachment`."""
        return await self.output.get()

    async def write(self, data: bytes) -> None:
        """See `Attachment`."""
        self.stdin += data

    def close_stdin(self) -> None:
        """See `Attachment`."""
        self.stdin_ended = True

    def resize(self, rows: int, columns: int) -> None:
        """See `Attachment`."""
        self.size = rows, columns

    def close(self) -> None:
        """See `Attachment`."""
        self.left = True


class FakeRuntime:
    """`Runtime` without a kernel. `scripts` maps ids to scripts, which `create` reads."""

    def __init__(self) -> None:
        self.scripts: dict[str, Script] = {}
        self.signals: list[tuple[str, int]] = []
        """Every signal that reached a live container, in order."""
        self.roots: dict[str, str] = {}
        """The directories with the files of containers, by id."""
        self.attached: dict[str, FakeAttachment] = {}
        """What the clients of containers are attached to."""
        self.opened: list[_Opened] = []
        """Every open command, in order."""
        self.layer_files: dict[str, set[str]] = {}
        """The files that were written to kept layers."""
        self._containers: dict[str, _Container] = {}
        self._changed = asyncio.Event()
        self._pids = _FIRST_PID

    def file_path(self, container_id: str, name: str) -> str:
        """See `Runtime`."""
        return f"/fake/{container_id}/files/{name}"

    async def edit_file(self, container_id: str, name: str, edit: Callable[[bytes], bytes]) -> None:
        """See `Runtime`."""
        if (container := self._containers.get(container_id)) is None:
            raise FileNotFoundError(self.file_path(container_id, name))
        container.config.files[name] = edit(container.config.files[name])

    def log_path(self, container_id: str) -> str:
        """See `Runtime`. The file never exists."""
        return f"/fake/logs/{container_id}"

    def config(self, container_id: str) -> ContainerConfig:
        """The configuration of a container."""
        return self._containers[container_id].config

    def commands(self, container_id: str) -> dict[str, CommandScript]:
        """How the commands of a container behave from now on, by their first word."""
        container = self._containers[container_id]
        changed = dict(container.script.commands)
        container.script = msgspec.structs.replace(container.script, commands=changed)
        return changed

    async def create(self, config: ContainerConfig) -> int:
        """See `Runtime`."""
        if config.id in self._containers:
            raise RuntimeFailed(f"container {config.id} exists already")
        script = self.scripts.get(config.id, Script())
        if holder := self._holder(config.layer):
            raise RuntimeFailed(f"its writable layer is in use by container {holder}")
        if script.fails_create:
            raise RuntimeFailed(script.fails_create)
        if config.layer:
            self.layer_files.setdefault(config.layer, set())
        self._pids += 1
        self._containers[config.id] = _Container(config, script, self._pids)
        return self._pids

    async def start(self, container_id: str) -> None:
        """See `Runtime`."""
        container = self._containers.get(container_id)
        if container is None or container.state is not ContainerState.CREATED:
            raise RuntimeFailed(f"cannot start container {container_id}: it is not created")
        script = container.script
        if script.fails_start:
            self._end(container_id, code=1, error=script.fails_start)
            raise RuntimeFailed(script.fails_start)
        container.state = ContainerState.RUNNING
        if script.exits_after_s >= 0:
            container.timer = asyncio.get_running_loop().call_later(
                script.exits_after_s, self._end, container_id, script.exit_code, script.oom
            )

    async def kill(self, container_id: str, signal: int, *, everyone: bool = False) -> None:
        """See `Runtime`."""
        container = self._containers.get(container_id)
        if container is None or container.state is ContainerState.STOPPED:
            return
        self.signals.append((container_id, signal))
        if container.paused and signal != signals.SIGKILL:
            container.pending = signal
            return
        heeds = signal not in container.script.ignores and (
            container.state is ContainerState.RUNNING
        )
        if signal == signals.SIGKILL or heeds:
            self._end(container_id, code=128 + signal)

    async def remove(self, container_id: str, *, keep_logs: bool = True) -> None:
        """See `Runtime`."""
        container = self._containers.pop(container_id, None)
        if container and container.timer:
            container.timer.cancel()

    def _holder(self, layer: str) -> str:
        """The container that has the kept layer; empty if none has."""
        held = (c.config.id for c in self._containers.values() if layer and c.config.layer == layer)
        return next(held, "")

    async def layers(self) -> tuple[str, ...]:
        """See `Runtime`."""
        return tuple(sorted(self.layer_files))

    async def remove_layer(self, layer: str) -> None:
        """See `Runtime`."""
        if holder := self._holder(layer):
            raise RuntimeFailed(f"writable layer {layer} is in use by container {holder}")
        self.layer_files.pop(layer, None)

    async def found(self) -> tuple[FoundContainer, ...]:
        """See `Runtime`."""
        return tuple(
            FoundContainer(
                id=container_id,
                state=container.state,
                pid=0 if container.exit else container.pid,
                exit=container.exit,
                paused=container.paused,
            )
            for container_id, container in sorted(self._containers.items())
        )

    async def exits(self) -> AsyncIterator[ContainerExit]:
        """See `Runtime`."""
        told: set[tuple[str, int]] = set()
        while True:
            ended = {(c.exit.id, c.exit.at_ns): c.exit for c in self._containers.values() if c.exit}
            for key in sorted(ended.keys() - told):
                yield ended[key]
            told = set(ended)
            self._changed.clear()
            await self._changed.wait()

    async def exec(self, container_id: str, command: Command, timeout_s: float) -> CommandResult:
        """See `Runtime`."""
        container = self._running(container_id)
        if container.paused:
            raise RuntimeFailed(f"container {container_id} is paused")
        script = container.script.commands.get(command.args[0], _NO_PROGRAM)
        await asyncio.sleep(min(script.takes_s, timeout_s))
        output = script.output[:EXEC_OUTPUT_MAX]
        if script.takes_s >= timeout_s or container.exit:
            late = script.takes_s >= timeout_s
            return CommandResult(code=128 + signals.SIGKILL, output=output, timed_out=late)
        layer = container.config.layer
        files = self.layer_files[layer] if layer else container.files
        if script.writes:
            files.add(script.writes)
        missing = script.looks_for and script.looks_for not in files
        return CommandResult(code=1 if missing else script.code, output=output)

    async def open(self, container_id: str, command: Command) -> OpenCommand:
        """See `Runtime`."""
        container = self._running(container_id)
        if container.paused:
            raise RuntimeFailed(f"container {container_id} is paused")
        script = container.script.commands.get(command.args[0], _NO_PROGRAM)
        opened = _Opened(command, script)
        self.opened.append(opened)
        return opened

    async def attach(self, container_id: str) -> Attachment:
        """See `Runtime`."""
        container = self._containers.get(container_id)
        if container is None or container.exit:
            raise RuntimeFailed(f"container {container_id} is not running")
        return self.attached.setdefault(container_id, FakeAttachment())

    async def pause(self, container_id: str) -> None:
        """See `Runtime`."""
        self._running(container_id).paused = True

    async def resume(self, container_id: str) -> None:
        """See `Runtime`."""
        container = self._running(container_id)
        container.paused, signal, container.pending = False, container.pending, 0
        if signal:
            await self.kill(container_id, signal)

    async def update(self, container_id: str, limits: CgroupLimits) -> None:
        """See `Runtime`. Nothing is refused."""
        container = self._containers.get(container_id)
        if container is None or container.exit:
            raise NotRunning(f"cannot update container {container_id}: it is not running")
        container.limits = limits

    def limits(self, container_id: str) -> CgroupLimits:
        """The limits of a container that exists."""
        return self._containers[container_id].limits

    def _running(self, container_id: str) -> _Container:
        container = self._containers.get(container_id)
        if container is None or container.state is not ContainerState.RUNNING:
            raise RuntimeFailed(f"container {container_id} is not running")
        return container

    def process(self, container_id: str) -> tuple[int, int]:
        """See `Runtime`. It is this process."""
        container = self._containers.get(container_id)
        if container is None or container.exit:
            raise NotRunning(f"container {container_id} is not running")
        return os.pidfd_open(os.getpid()), os.getpid()

    async def top(self, container_id: str, options: tuple[str, ...]) -> ProcessTable:
        """See `Runtime`. A fake container is one process."""
        container = self._containers.get(container_id)
        if container is None or container.state is not ContainerState.RUNNING:
            raise NotRunning(f"container {container_id} is not running")
        process = container.config.oci.get("process")
        words = process.get("args", ()) if isinstance(process, dict) else ()
        row = ("root", str(container.pid), " ".join(words))
        return ProcessTable(titles=("UID", "PID", "CMD"), rows=(row,))

    async def rootfs(self, container_id: str, layer: str = "", *, writable: bool = False) -> Rootfs:
        """See `Runtime`. The files are those of `roots`."""
        root = self.roots.get(container_id)
        if root is None:
            raise RuntimeFailed(f"container {container_id} does not exist")
        descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        close = partial(os.close, descriptor)
        return Rootfs(descriptor=descriptor, close=close, overlay=root, upper=root, layers=())

    async def tend(self) -> None:
        """See `Runtime`. There are no logs to rotate."""
        await asyncio.get_running_loop().create_future()

    def _end(self, container_id: str, code: int, oom: bool = False, error: str = "") -> None:
        container = self._containers.get(container_id)
        if container is None or container.exit:
            return
        if container.timer:
            container.timer.cancel()
        container.state, container.paused = ContainerState.STOPPED, False
        container.exit = ContainerExit(
            id=container_id,
            code=code,
            signal=code - 128 if code > 128 else 0,
            oom=oom,
            at_ns=time.time_ns(),
            error=error,
        )
        self._changed.set()
