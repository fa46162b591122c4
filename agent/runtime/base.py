"""The agent's one view of containers: values, errors and the `Runtime` protocol.

PURE: values only. `crun.py` (real) and `fake.py` (in memory) implement `Runtime` and pass the same contract tests.
Invariant: a container id is used once. Every method may be repeated after an agent's death: what is on disk and in
the kernel decides, never what an object remembers.
"""

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Protocol

import msgspec


class RuntimeFailed(Exception):
    """The container could not be created or started; the text is the OCI runtime's own, fit for a task's message."""


class ContainerState(StrEnum):
    """What a container is doing, as far as disk and /proc tell."""

    CREATED = "created"
    RUNNING = "running"
    STOPPED = "stopped"


class LogLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Docker's json-file words: `max_size` bytes a file (0: no limit), at most `max_file` files, the current included."""

    max_size: int = 0
    max_file: int = 1


class ContainerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """All that one container is made from. `oci` is the config.json without `root.path`, which the runtime sets.

    `layers` are the image's unpacked directories, the uppermost first. `files` are small files written to the
    container's own directory before it is created, by name (hosts, hostname, resolv.conf); the OCI config mounts
    them from `file_path(id, name)`. `log_path` survives `remove` unless asked otherwise.
    """

    id: str
    oci: dict[str, object]
    layers: tuple[str, ...]
    log_path: str
    log_limits: LogLimits = LogLimits()
    files: dict[str, bytes] = {}
    terminal: bool = False


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """How a container ended. `signal` is inferred from `code` > 128 (0: none); `at_ns` is wall time.

    `code` is -1 when nobody saw the end (conmon killed, machine rebooted).
    """

    id: str
    code: int
    signal: int = 0
    oom: bool = False
    at_ns: int = 0


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A container that is there, whoever made it. `pid` is 0 once stopped; `exit` is set exactly when stopped."""

    id: str
    state: ContainerState
    pid: int = 0
    exit: Exit | None = None


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of a container's cgroup. `memory_bytes` leaves out page cache that can be dropped at once."""

    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    cpu_ns: int = 0
    pids: int = 0


class Runtime(Protocol):
    """Creates, starts, signals and removes containers that outlive this process.

    `remove` and `kill` are idempotent; an unknown id is no error. No method blocks the event loop.
    """

    def file_path(self, id: str, name: str) -> str:
        """Where `ContainerConfig.files[name]` of container `id` will lie on the host."""
        ...

    async def create(self, config: ContainerConfig) -> int:
        """Make everything up to, not including, the first instruction; return the pid.

        Raises RuntimeFailed with the real cause; then nothing of the container is left but its log.
        """
        ...

    async def start(self, id: str) -> None:
        """Let a created container run. Raises RuntimeFailed if it is not there or cannot be let go."""
        ...

    async def kill(self, id: str, signal: int, everyone: bool = False) -> None:
        """Send a signal to the container's first process, or to `everyone` in its cgroup. No error if it is dead."""
        ...

    async def remove(self, id: str, keep_logs: bool = True) -> None:
        """Leave nothing of the container, from whatever half-made state, killing what still runs."""
        ...

    async def found(self) -> tuple[Found, ...]:
        """Every container there is, from disk and /proc, in id order."""
        ...

    def exits(self) -> AsyncIterator[Exit]:
        """Every exit not yet removed, then each new one as it happens; a consumer may see one twice."""
        ...

    async def usage(self, id: str) -> Usage | None:
        """The container's present use of its cgroup; None if it has none."""
        ...

    async def tend(self) -> None:
        """Rotate logs that outgrew their limits, for ever; run it in the agent's task group."""
        ...
