"""Commands in running containers: `crun exec` with a cgroup of its own. SHELL.

The OCI runtime puts the command into the cgroup `<container>/exec-<number>` of every hierarchy: the
container's limits apply to it, and all its processes can be found and killed. The runtime's own
process runs until the command has ended, and exits with its code.

What a command that ended has started moves to the cgroup `<container>/left`, where it stays, as do
detached commands.

A cgroup is kept for the container's next command: making and removing it in every hierarchy costs a
fifth of the command. Processes in a cgroup that no command of this agent uses are left from a
former agent, or hang in the kernel; they are killed before the next command, which takes another
cgroup if they do not end at once.
"""

import asyncio
import os
import signal as signals
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from agent.fitness import is_host_error
from agent.runtime import cgroups, conmon
from agent.runtime.base import Command, CommandResult, HostFailed, RuntimeFailed
from agent.runtime.cgroups import Hierarchies
from agent.runtime.conmon import Binaries
from agent.runtime.layout import Layout
from agent.runtime.program.inspection import explain, is_about_program
from agent.runtime.running import spawning
from agent.runtime.running.process import process_of
from agent.runtime.running.spawning import LOG_FD, SPEC_FD, Spawned, Stdio
from pyswarm_core.limits import EXEC_OUTPUT_MAX

_PREFIX = "exec-"
_LEFT = "left"
"""The cgroup of processes that outlive their command, as a daemon that it started."""
_PIPE_BYTES = 1 << 16
_MESSAGE_MAX = 1024
_EMPTY_KNOWN = 4096
_HANGING_MAX = 4
"""Cgroups of a container whose processes do not end, until it gets no further command."""
_CPUSET = ("cpuset.cpus", "cpuset.mems")


class Running(msgspec.Struct):
    """A running command. `process` is its OCI section; `log` is the descriptor of the OCI runtime's
    messages.
    """

    container_id: str
    cgroup: str
    process: dict[str, Any]
    pid: int
    pidfd: int
    log: int
    stdio: Stdio
    detached: bool = False
    """Its processes stay."""


class Execs:
    """Begins and ends commands, blocking; in between, `wait` runs in the event loop."""

    def __init__(self, binaries: Binaries, layout: Layout, hierarchies: Hierarchies) -> None:
        self._binaries = binaries
        self._layout = layout
        self._hierarchies = hierarchies
        self._busy: set[str] = set()
        """The cgroups of running commands."""
        self._empty: set[str] = set()
        """Cgroups that are empty since a command of this agent ended, at most _EMPTY_KNOWN."""

    def begin(self, container_id: str, command: Command, *, opened: bool = False) -> Running:
        """Start a command in a running container, with its stdio open if it is `opened`; otherwise
        its output is one pipe. Raises RuntimeFailed.
        """
        process = process_of(self._layout.bundle(container_id), command)
        cgroup = ""
        try:
            parent = self._layout.cgroup(container_id)
            cgroup = self._left(parent) if command.detached else self._take_cgroup(parent)
            started = self._spawn(container_id, cgroup, process, command if opened else None)
        except RuntimeFailed:
            self._busy.discard(cgroup)
            raise
        except OSError as error:
            self._busy.discard(cgroup)
            failure = HostFailed if is_host_error(error) else RuntimeFailed
            raise failure(f"cannot start a command: {error.strerror}") from error
        return Running(
            container_id,
            cgroup,
            process,
            started.pid,
            started.pidfd,
            started.log,
            started.stdio,
            command.detached,
        )

    def end_former(self, container_id: str) -> None:
        """Kill the commands of a former agent: nobody has their stdio."""
        parent = self._layout.cgroup(container_id)
        with suppress(FileNotFoundError):
            for path in Path(self._hierarchies.roots()[0] + parent).iterdir():
                name = f"{parent}/{path.name}"
                if path.name.startswith(_PREFIX) and name not in self._busy:
                    self._is_empty(name)

    def _left(self, parent: str) -> str:
        """The cgroup of what outlives its command."""
        _make_cgroup(self._hierarchies, parent, _LEFT)
        return f"{parent}/{_LEFT}"

    def _take_cgroup(self, parent: str) -> str:
        """An empty cgroup below a container's: an unused one, else a new one. Waits for nothing."""
        container = Path(self._hierarchies.roots()[0] + parent)
        seen = [path.name for path in container.iterdir() if path.name.startswith(_PREFIX)]
        free = [name for name in seen if f"{parent}/{name}" not in self._busy]
        usable = [name for name in free if self._is_empty(f"{parent}/{name}")]
        if len(free) - len(usable) >= _HANGING_MAX:
            raise RuntimeFailed("former commands do not end: their processes hang in the kernel")
        if usable:
            name = min(usable)
        else:
            name = next(name for name in (f"{_PREFIX}{n}" for n in count()) if name not in seen)
            _make_cgroup(self._hierarchies, parent, name)
        self._busy.add(f"{parent}/{name}")
        self._empty.discard(f"{parent}/{name}")
        return f"{parent}/{name}"

    def _is_empty(self, path: str) -> bool:
        """Whether no process is in a cgroup; kills those that are."""
        if path in self._empty or not cgroups.members(self._hierarchies, path):
            return True
        cgroups.kill(self._hierarchies, path)
        return False

    def _spawn(
        self, container_id: str, cgroup: str, process: dict[str, Any], opened: Command | None
    ) -> Spawned:
        words = [self._binaries.oci, "--root", str(self._layout.oci_root)]
        words += ["--log", f"/proc/self/fd/{LOG_FD}", "exec", "--cgroup", Path(cgroup).name]
        words += ["--process", f"/proc/self/fd/{SPEC_FD}", container_id]
        if opened is None:
            return spawning.spawn(words, process)
        if opened.detached:
            words.insert(-1, "--detach")
            return spawning.spawn_without(words, process)
        if opened.terminal:
            size = opened.rows, opened.columns
            if self._binaries.kind == "runc":
                return spawning.spawn_on_terminal(words, process, size)
            console = self._layout.consoles / f"{container_id}-{Path(cgroup).name}"
            console.unlink(missing_ok=True)
            return spawning.spawn_with_terminal(words, process, console, size)
        return spawning.spawn(words, process, stdin=opened.interactive, errors=True)

    def leave(self, running: Running) -> None:
        """Let the processes go on that a command which ended has started: they move to a cgroup of
        which nothing is killed before the container.
        """
        parent = self._layout.cgroup(running.container_id)
        with suppress(OSError):
            if not running.detached and not self.is_over(running):
                cgroups.move(self._hierarchies, running.cgroup, self._left(parent))

    def is_over(self, running: Running) -> bool:
        """Whether a command whose OCI runtime has ended left no process: its `end` will not
        block.
        """
        return not cgroups.members(self._hierarchies, running.cgroup)

    def end(self, running: Running, output: bytes, *, timed_out: bool) -> CommandResult:
        """Kill what is left of a command. Raises RuntimeFailed if the OCI runtime failed, or if a
        process does not end.
        """
        try:
            # The OCI runtime first: a command that it has not started yet ends with it.
            with suppress(ProcessLookupError):
                signals.pidfd_send_signal(running.pidfd, signals.SIGKILL)
            try:
                if not running.detached:
                    cgroups.empty(self._hierarchies, running.cgroup)
                    self._remember(running.cgroup)
            finally:
                code = spawning.exit_code(running.pidfd)  # otherwise it stays as a zombie
            message = message_of(running)
        finally:
            self._busy.discard(running.cgroup)
            running.stdio.close()
            for descriptor in (running.pidfd, running.log):
                os.close(descriptor)
        if timed_out or not code or not message:
            return CommandResult(code=code, output=output, timed_out=timed_out)
        if not is_about_program(message):
            raise RuntimeFailed(message)
        bundle = self._layout.bundle(running.container_id)
        why = explain(message, bundle, running.process)
        missing = any(words in why.lower() for words in ("no such file", "not found"))
        return CommandResult(code=127 if missing else 126, output=why.encode()[:EXEC_OUTPUT_MAX])

    def _remember(self, cgroup: str) -> None:
        """Remember that the cgroup is empty. Those of removed containers go when there are many."""
        if len(self._empty) >= _EMPTY_KNOWN:
            self._empty.clear()
        self._empty.add(cgroup)


def message_of(running: Running) -> str:
    """The OCI runtime's message, if it has failed."""
    return conmon.plain_message(os.pread(running.log, _MESSAGE_MAX, 0).decode(errors="replace"))


async def wait(running: Running, timeout_s: float) -> tuple[bytes, bool]:
    """Wait for a command's end; return its output, and whether the timeout came first."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    kept = bytearray()
    timed_out = False

    def read() -> None:
        if _read(running.stdio.output, kept) == b"":
            loop.remove_reader(running.stdio.output)

    def end() -> None:
        loop.remove_reader(running.pidfd)
        if not ended.done():  # the timeout may have come in the same turn
            ended.set_result(None)

    loop.add_reader(running.stdio.output, read)
    loop.add_reader(running.pidfd, end)
    try:
        async with asyncio.timeout(timeout_s):
            await ended
    except TimeoutError:
        timed_out = True
    finally:
        loop.remove_reader(running.stdio.output)
        loop.remove_reader(running.pidfd)
    while len(kept) < EXEC_OUTPUT_MAX and _read(running.stdio.output, kept):
        continue
    return bytes(kept), timed_out


def _read(pipe: int, kept: bytearray) -> bytes | None:
    """Read the pipe and keep what fits; None if it has no data now, empty at its end."""
    try:
        found = os.read(pipe, _PIPE_BYTES)
    except BlockingIOError:
        return None
    kept += found[: EXEC_OUTPUT_MAX - len(kept)]
    return found


def _make_cgroup(hierarchies: Hierarchies, parent: str, name: str) -> None:
    """Make the cgroup in every hierarchy that the container is in: where it is missing, crun leaves
    a process in the agent's own cgroup. The one of the first hierarchy is made last: if it exists,
    all do.
    """
    for root in reversed(hierarchies.roots()):
        directory = Path(root + parent)
        with suppress(FileNotFoundError):
            (directory / name).mkdir(exist_ok=True)
            for setting in _CPUSET if root == hierarchies.v1.get("cpuset") else ():
                (directory / name / setting).write_text((directory / setting).read_text())
