"""The container interface of the agent: values, errors and the `Runtime` protocol. PURE: values
only.

`crun.py` (real) and `fake.py` (in memory) implement `Runtime` and pass the same contract tests.
Invariants: a container id is used once. Every method may be repeated after the agent died: the
disk and the kernel hold the state, never an object in memory.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from enum import StrEnum
from typing import Protocol

import msgspec

from agent.runtime.isolation.bound import BoundSource

CPU_PERIOD_US = 100_000


class RuntimeFailed(Exception):
    """The container cannot be made or run; the text is the OCI runtime's, and the task's error."""


class HostFailed(RuntimeFailed):
    """The host cannot make any container: a resource that every container needs is used up."""


class NotRunning(RuntimeFailed):
    """The container's process has ended, or was never started."""


class NoUser(RuntimeFailed):
    """The container has no user or group of that name."""


class ContainerState(StrEnum):
    """The state of a container, from its files and /proc."""

    CREATED = "created"
    RUNNING = "running"
    STOPPED = "stopped"


class LogLimits(msgspec.Struct, frozen=True, kw_only=True):
    """As in Docker's json-file driver: `max_size` bytes per file (0: no limit), `max_file` files in
    all. Lines that are not `stored` reach attached clients alone.
    """

    max_size: int = 0
    max_file: int = 1
    stored: bool = True


class DeviceNode(msgspec.Struct, frozen=True, kw_only=True):
    """A device of the host as a container gets it.

    `path` is in the container, `source` on the host, `kind` is `c` or `b`, `mode` are the
    permission bits, `permissions` what the container's cgroup allows: r, w, m.
    """

    path: str
    source: str
    kind: str
    major: int
    minor: int
    mode: int = 0o600
    uid: int = 0
    gid: int = 0
    permissions: str = "rwm"


class DiskLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one disk, by the path of its device on the host; 0: none. Bytes and operations
    are per second.
    """

    path: str
    weight: int = 0
    read_bps: int = 0
    write_bps: int = 0
    read_iops: int = 0
    write_iops: int = 0


class CgroupLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The cgroup limits of a container; 0 and empty: none. `cpu_quota_us` is per `cpu_period_us`,
    `cpu_shares` the weight as Docker counts it, where none is 1,024.
    """

    cpu_quota_us: int = 0
    cpu_period_us: int = CPU_PERIOD_US
    cpu_shares: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    memory_bytes: int = 0
    memory_and_swap_bytes: int = 0
    memory_reservation_bytes: int = 0
    pids: int = 0
    blkio_weight: int = 0
    disks: tuple[DiskLimits, ...] = ()


class ContainerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one container is made from.

    `oci` is the config.json without `root.path`, which the runtime sets. `layers` are the unpacked
    directories of the image, the uppermost first. `files` maps plain names to small files (hosts,
    hostname, resolv.conf). They are written to `Runtime.file_path(id, name)` before the container
    is made, and the OCI config mounts them from there. `limits` are set before its first
    instruction.
    """

    id: str
    oci: dict[str, object]
    layers: tuple[str, ...]
    log_limits: LogLimits = LogLimits()
    files: dict[str, bytes] = {}
    terminal: bool = False
    limits: CgroupLimits | None = None
    """All limits, if some of them are not in `oci`."""
    stdin: bool = False
    """Clients may attach to its stdin; otherwise that is empty."""
    stdin_once: bool = False
    """Its stdin ends with the first client that attached."""
    layer: str = ""
    """The kept writable layer, which is made if it does not exist; empty: one of its own, which is
    removed with the container.
    """
    volatile: bool = True
    """What it writes may be lost with the host's power."""
    binds: tuple[BoundSource, ...] = ()
    """What some of the mounts in `oci` have to show: it is compared before the first instruction.
    """


class ContainerExit(msgspec.Struct, frozen=True, kw_only=True):
    """How a container ended; `at_ns` is wall time.

    `signal` is inferred from `code` > 128 (0: none). A container whose exit was not observed (its
    monitor was killed, the host went down) has code 137. `error` is set if its program could not be
    executed: the OCI runtime's message, the same that `start` raises.
    """

    id: str
    code: int
    signal: int = 0
    oom: bool = False
    at_ns: int = 0
    error: str = ""


class FoundContainer(msgspec.Struct, frozen=True, kw_only=True):
    """A container that exists, made by this agent or a former one.

    `pid` is 0 once stopped. `exit` is set if and only if stopped. A running one may be `paused`.
    """

    id: str
    state: ContainerState
    pid: int = 0
    exit: ContainerExit | None = None
    paused: bool = False


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of a container's cgroup.

    `memory_bytes` excludes cache that the kernel can drop. A limit of 0 means none. `cpu_ns` and
    the bytes read from and written to disks count from the container's start.
    """

    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    cpu_ns: int = 0
    pids: int = 0
    io_read_bytes: int = 0
    io_write_bytes: int = 0


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """What a container's cgroup counts besides; all but `rss_bytes`, `cache_bytes` and the limit
    from the container's start.

    `periods` are those of its CPU quota. `stalled_ns` is the time that `some` or all (`full`) of
    its processes waited, by resource and kind. A limit of 0 means none.
    """

    user_ns: int = 0
    system_ns: int = 0
    periods: int = 0
    throttled_periods: int = 0
    throttled_ns: int = 0
    rss_bytes: int = 0
    cache_bytes: int = 0
    oom_kills: int = 0
    pids_limit: int = 0
    io_reads: int = 0
    io_writes: int = 0
    stalled_ns: Mapping[tuple[str, str], int] = {}


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A command for a running container. Empty fields default to those of the container's program.

    `env` (NAME=VALUE) is added. `user` is Docker's `USER[:GROUP]`, looked up in the container.
    """

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    capabilities: tuple[str, ...] = ()
    """Instead of the container's, and effective for any user."""
    interactive: bool = False
    """Of an open command: it has a stdin, otherwise that is empty."""
    terminal: bool = False
    rows: int = 0
    columns: int = 0
    detached: bool = False
    """Of an open command: it is over once the program runs, which goes on without stdio."""


class CommandResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a command ended.

    `code` is 127 if its program does not exist, 126 if it cannot be executed (`output` says why),
    and 128 + the signal that ended it. `output` is the first EXEC_OUTPUT_MAX bytes that it wrote to
    stdout and stderr.
    """

    code: int
    output: bytes = b""
    timed_out: bool = False


class ProcessTable(msgspec.Struct, frozen=True, kw_only=True):
    """Processes as `ps` prints them; each row has a cell per title."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Ids(msgspec.Struct, frozen=True):
    """A range of user or group ids of a container's user namespace, and where it begins outside."""

    inside: int
    outside: int
    size: int


class Rootfs(msgspec.Struct, frozen=True, kw_only=True):
    """Where a container's files are. Whoever got it calls `close`.

    `descriptor` is the root directory: of a running container with its mounts, otherwise of the
    writable layer over the image. `layers` are the image's, the uppermost first.
    """

    descriptor: int
    close: Callable[[], None]
    overlay: str
    """The root directory without the mounts of the container."""
    upper: str
    layers: tuple[str, ...]
    mounts: tuple[str, ...] = ()
    """The paths at which the OCI runtime mounts something: it makes those that the image lacks."""
    read_only: bool = False
    users: tuple[Ids, ...] = ()
    groups: tuple[Ids, ...] = ()
    """Empty: the ids are the host's."""
    absent: tuple[int, int] = (0, 0)
    """Device and inode of the directory that stands for mounts which only a running container has.
    """


class OpenCommand(Protocol):
    """A running command with open stdio: descriptors that do not block; -1: none. With a terminal
    `stdin` and `stdout` are the same descriptor, its master.

    `end` must be called; it closes the descriptors.
    """

    @property
    def stdin(self) -> int:
        """Closed by `close_stdin`."""
        ...

    @property
    def stdout(self) -> int:
        """With a terminal all output; its end is an EIO."""
        ...

    @property
    def stderr(self) -> int:
        """None with a terminal."""
        ...

    @property
    def failure(self) -> str:
        """Why the program could not be executed, in the runtime's words; it writes them to stderr
        or to the terminal, too. Known once the command has ended.
        """
        ...

    def close_stdin(self) -> None:
        """The program reads the end of its stdin. A terminal stays open."""
        ...

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of the terminal; without one nothing happens."""
        ...

    def signal(self, number: int) -> None:
        """Send a signal to the program."""
        ...

    async def wait(self) -> None:
        """Return when the program has ended. What it started may still run."""
        ...

    async def end(self, *, kill: bool) -> CommandResult:
        """How the program ended; `output` is the reason if it could not be executed.

        With `kill` it is killed with all processes that it started; otherwise it has ended, and
        those go on. Raises RuntimeFailed as `exec` does.
        """
        ...


class Attachment(Protocol):
    """A client's connection to the stdio of a container's own program. `close` must be called."""

    async def run(self) -> None:
        """Read output until the container has ended; the others need it to run meanwhile."""
        ...

    async def read(self) -> tuple[int, bytes] | None:
        """The next output with its channel: 1 stdout (with a terminal all), 2 stderr; None at the
        end. The container waits while nobody reads.
        """
        ...

    async def write(self, data: bytes) -> None:
        """Write to the program's stdin; nothing if it has none. Waits while it does not read."""
        ...

    def close_stdin(self) -> None:
        """The client sends nothing more: ends the program's stdin if it is `stdin_once`."""
        ...

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of the terminal."""
        ...

    def close(self) -> None:
        """Leave."""
        ...


class Runtime(Protocol):
    """Makes, starts, signals and removes containers that outlive this process.

    `kill` and `remove` may be repeated; an id that does not exist is no error. No method blocks the
    event loop.
    """

    def file_path(self, container_id: str, name: str) -> str:
        """The path on the host of `ContainerConfig.files[name]` of a container."""
        ...

    async def edit_file(self, container_id: str, name: str, edit: Callable[[bytes], bytes]) -> None:
        """Change `ContainerConfig.files[name]` of a container in place: it sees the change at once.
        `edit` is called in a thread. A file that the container made larger than 1 MiB stays as it
        is, with a warning in the log.

        Raises OSError, also if the container does not exist.
        """
        ...

    def log_path(self, container_id: str) -> str:
        """The path of a container's current log file; `logs.read_log` reads the older ones too."""
        ...

    async def create(self, config: ContainerConfig) -> int:
        """Make a container up to, not including, its first instruction; return the pid.

        Raises RuntimeFailed with the cause, also while another container has its kept layer; then
        nothing of the container is left but its log and that layer.
        """
        ...

    async def start(self, container_id: str) -> None:
        """Run the program of a created container.

        Raises RuntimeFailed if the container does not exist or its program cannot be executed.
        """
        ...

    async def kill(self, container_id: str, signal: int, *, everyone: bool = False) -> None:
        """Send a signal to the container's first process, or to `everyone` in its cgroup."""
        ...

    async def remove(self, container_id: str, *, keep_logs: bool = True) -> None:
        """Kill and remove a container, complete or half made.

        A kept log is removed by a later call without `keep_logs`. Raises RuntimeFailed if the
        kernel does not release a resource; the call may be repeated then.
        """
        ...

    async def layers(self) -> tuple[str, ...]:
        """The ids of all kept writable layers, in order."""
        ...

    async def remove_layer(self, layer: str) -> None:
        """Delete a kept writable layer; one that does not exist is no error.

        Raises RuntimeFailed while a container has it, OSError if something of it is left; the call
        may be repeated then.
        """
        ...

    async def found(self) -> tuple[FoundContainer, ...]:
        """Every container that exists, from disk and /proc, in the order of ids."""
        ...

    def exits(self) -> AsyncIterator[ContainerExit]:
        """The exits of all containers that exist, then each new one; an exit may come twice."""
        ...

    async def exec(self, container_id: str, command: Command, timeout_s: float) -> CommandResult:
        """Run a command in a running container, without input, and wait for it.

        All its processes are killed when it ends, at the timeout, and when this call is cancelled.
        Raises RuntimeFailed if the container is not running or is paused, NoUser.
        """
        ...

    async def open(self, container_id: str, command: Command) -> OpenCommand:
        """Begin a command in a running container, with its stdio.

        Raises RuntimeFailed if the container is not running or is paused, NoUser.
        """
        ...

    async def attach(self, container_id: str) -> Attachment:
        """Attach to the program of a container that was created and has not ended.

        Raises RuntimeFailed for others.
        """
        ...

    async def pause(self, container_id: str) -> None:
        """Freeze every process of a running container. May be repeated.

        SIGKILL and `remove` end a paused container; other signals are delivered by `resume`.
        Raises RuntimeFailed if the container is not running or does not freeze.
        """
        ...

    async def resume(self, container_id: str) -> None:
        """Resume a paused container; one that is not paused stays as it is.

        Raises RuntimeFailed if it is not running.
        """
        ...

    async def update(self, container_id: str, limits: CgroupLimits) -> None:
        """Change the limits of a running container.

        Raises NotRunning if it is not running, RuntimeFailed if the limits are below its usage or
        the kernel refuses; then no limit has changed.
        """
        ...

    def process(self, container_id: str) -> tuple[int, int]:
        """The first process of a running container: a pidfd, which the caller closes, and its pid.

        Raises NotRunning.
        """
        ...

    async def top(self, container_id: str, options: tuple[str, ...]) -> ProcessTable:
        """The processes of a running container, by `ps` with these options.

        Raises NotRunning, InvalidArgument for the options.
        """
        ...

    async def rootfs(self, container_id: str, layer: str = "", *, writable: bool = False) -> Rootfs:
        """The files of a container; of one that does not exist any more those of its kept layer.

        Nothing else uses such a layer while it is `writable`. Raises RuntimeFailed without files.
        """
        ...

    async def tend(self) -> None:
        """Rotate logs that exceed their limits, for ever; runs in the agent's task group."""
        ...
