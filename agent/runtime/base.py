"""The agent's one view of containers: values, errors and the `Runtime` protocol. PURE: values only.

`crun.py` (real) and `fake.py` (in memory) implement `Runtime` and pass the same contract tests.
Invariant: a container id is used once. Every method may be repeated after an agent's death: what is
on disk and in the kernel decides, never what an object remembers.
"""

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Protocol

import msgspec

CPU_PERIOD_US = 100_000


class RuntimeFailed(Exception):
    """The container cannot be made or run; the text is the OCI runtime's own, fit for a task."""


class HostFailed(RuntimeFailed):
    """The host is the reason, not the container: something that every container needs ran out."""


class ContainerState(StrEnum):
    """What a container is doing, as far as disk and /proc tell."""

    CREATED = "created"
    RUNNING = "running"
    STOPPED = "stopped"


class LogLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Docker's json-file words: `max_size` bytes a file (0: no limit), `max_file` files in all."""

    max_size: int = 0
    max_file: int = 1


class ContainerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """All that one container is made from.

    `oci` is the config.json without `root.path`, which the runtime sets. `layers` are the image's
    unpacked directories, the uppermost first. `files` are small files, by plain name, written to
    `Runtime.file_path(id, name)` before the container is made (hosts, hostname, resolv.conf): the
    OCI config mounts them from there.
    """

    id: str
    oci: dict[str, object]
    layers: tuple[str, ...]
    log_limits: LogLimits = LogLimits()
    files: dict[str, bytes] = {}
    terminal: bool = False


class ContainerExit(msgspec.Struct, frozen=True, kw_only=True):
    """How a container ended; `at_ns` is wall time.

    `signal` is inferred from `code` > 128 (0: none). A container whose end nobody could see (its
    monitor was killed, the machine went down) has code 137. `error` is set if its program never
    ran because it is none: the OCI runtime's own words, the same that `start` raises.
    """

    id: str
    code: int
    signal: int = 0
    oom: bool = False
    at_ns: int = 0
    error: str = ""


class FoundContainer(msgspec.Struct, frozen=True, kw_only=True):
    """A container that is there, whoever made it.

    `pid` is 0 once stopped. `exit` is set exactly when stopped. `paused` may be set while running.
    """

    id: str
    state: ContainerState
    pid: int = 0
    exit: ContainerExit | None = None
    paused: bool = False


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of a container's cgroup.

    `memory_bytes` leaves out cache the kernel can drop. A limit of 0 is none. `cpu_ns` and the
    bytes read from and written to disks count from the container's start.
    """

    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    cpu_ns: int = 0
    pids: int = 0
    io_read_bytes: int = 0
    io_write_bytes: int = 0


class CgroupLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel lets a container use; 0 is unlimited. `cpu_quota_us` is per CPU_PERIOD_US."""

    cpu_quota_us: int = 0
    memory_bytes: int = 0
    memory_and_swap_bytes: int = 0
    pids: int = 0


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A command for a running container. What is left empty is as for the container's own program.

    `env` (NAME=VALUE) is added. `user` is Docker's `USER[:GROUP]`, by the container's own files.
    """

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""


class CommandResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a command ended.

    `code` is 127 if its program is not there, 126 if it cannot be run (`output` says why), and
    128 + the signal that ended it. `output` is the first EXEC_OUTPUT_MAX bytes of what it wrote to
    both streams.
    """

    code: int
    output: bytes = b""
    timed_out: bool = False


class Runtime(Protocol):
    """Makes, starts, signals and removes containers that outlive this process.

    `kill` and `remove` may be repeated; an id that is not there is no error. Nothing here blocks
    the event loop.
    """

    def file_path(self, container_id: str, name: str) -> str:
        """Where `ContainerConfig.files[name]` of a container lies on the host."""
        ...

    def log_path(self, container_id: str) -> str:
        """Where a container's log is, the current file of it; `logs.read_log` reads them all."""
        ...

    async def create(self, config: ContainerConfig) -> int:
        """Make everything up to, not including, the first instruction; return the pid.

        Raises RuntimeFailed with the real cause; then nothing of the container is left but its log.
        """
        ...

    async def start(self, container_id: str) -> None:
        """Let a created container run.

        Raises RuntimeFailed if it is not there, or if its program turns out not to be one.
        """
        ...

    async def kill(self, container_id: str, signal: int, *, everyone: bool = False) -> None:
        """Send a signal to the container's first process, or to `everyone` in its cgroup."""
        ...

    async def remove(self, container_id: str, *, keep_logs: bool = True) -> None:
        """Leave nothing of the container, however half-made, killing what still runs.

        A kept log can be removed later by asking again without `keep_logs`.
        Raises RuntimeFailed if the kernel will not let go; then it may be asked again.
        """
        ...

    async def found(self) -> tuple[FoundContainer, ...]:
        """Every container there is, from disk and /proc, in id order."""
        ...

    def exits(self) -> AsyncIterator[ContainerExit]:
        """Every exit not yet removed, then each new one as it happens; one may come twice."""
        ...

    async def exec(self, container_id: str, command: Command, timeout_s: float) -> CommandResult:
        """Run a command in a running container, without input, and wait for it.

        Nothing of it is left afterwards: what it started is killed when it ends, when the time is
        over, and when this call is cancelled. Raises RuntimeFailed if the container is not running
        or is paused, or if there is no such user.
        """
        ...

    async def pause(self, container_id: str) -> None:
        """Stop every process of a running container where it is. May be repeated.

        SIGKILL and `remove` end a paused container; other signals wait for `resume`.
        Raises RuntimeFailed if it is not running or will not stop.
        """
        ...

    async def resume(self, container_id: str) -> None:
        """Let a paused container go on; one that is not paused does anyway.

        Raises RuntimeFailed if it is not running.
        """
        ...

    async def update(self, container_id: str, limits: CgroupLimits) -> None:
        """Change a container's limits while it runs.

        Raises RuntimeFailed if it is not there or the kernel refuses; then none has changed.
        """
        ...

    async def stats(self, container_id: str) -> Stats | None:
        """What the container uses now; None if it is not there."""
        ...

    async def tend(self) -> None:
        """Rotate logs that outgrew their limits, for ever; runs in the agent's task group."""
        ...
