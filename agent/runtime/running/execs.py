"""Commands in running containers: `crun exec` with a cgroup of its own. SHELL.

The OCI runtime puts the command into the cgroup `<container>/exec-<number>` of every hierarchy: the
container's limits apply to it, and all its processes can be found and killed. The runtime's own
process runs until the command has ended, and exits with its code.

A cgroup is kept for the container's next command: making and removing it in every hierarchy costs a
fifth of the command. Processes in a cgroup that no command of this agent uses are left from a
former agent, or hang in the kernel; they are killed before the next command, which takes another
cgroup if they do not end at once.
"""

import asyncio
import fcntl
import os
import select
import signal as signals
from collections.abc import Iterable
from contextlib import ExitStack, suppress
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
from agent.runtime.program.beneath import Root
from agent.runtime.program.inspection import explain, is_about_program
from agent.runtime.program.users import resolve_user
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.limits import EXEC_OUTPUT_MAX

_PREFIX = "exec-"
_SPEC_FD, _LOG_FD = 3, 4
_USER_FILE_MAX = 1 << 20
_PIPE_BYTES = 1 << 16
_MESSAGE_MAX = 1024
_END_TIMEOUT_S = 10.0
_EMPTY_KNOWN = 4096
_HANGING_MAX = 4
"""Cgroups of a container whose processes do not end, until it gets no further command."""
_CPUSET = ("cpuset.cpus", "cpuset.mems")


class Running(msgspec.Struct):
    """A running command. `process` is its OCI section; `output` and `log` are descriptors."""

    container_id: str
    cgroup: str
    process: dict[str, Any]
    pid: int
    pidfd: int
    output: int
    log: int


class _Config(msgspec.Struct):
    """The part of a config.json that a command changes."""

    process: dict[str, Any]


_config = msgspec.json.Decoder(_Config)


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

    def begin(self, container_id: str, command: Command) -> Running:
        """Start a command in a running container. Raises RuntimeFailed."""
        process = self._process(container_id, command)
        cgroup = ""
        try:
            cgroup = self._take_cgroup(self._layout.cgroup(container_id))
            return self._spawn(container_id, cgroup, process)
        except OSError as error:
            self._busy.discard(cgroup)
            failure = HostFailed if is_host_error(error) else RuntimeFailed
            raise failure(f"cannot start a command: {error.strerror}") from error

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

    def _process(self, container_id: str, command: Command) -> dict[str, Any]:
        """The OCI section: the container's, with the changes that the command requests."""
        bundle = self._layout.bundle(container_id)
        try:
            config = _config.decode((bundle / "config.json").read_bytes())
        except OSError as error:
            raise RuntimeFailed(f"container {container_id} does not exist") from error
        process: dict[str, Any] = {**config.process, "terminal": False}
        env = _variables(process.get("env", ()))
        if command.user:
            root = Root(bundle / "rootfs")
            passwd, group = (_content(root, name) for name in ("/etc/passwd", "/etc/group"))
            try:
                user = resolve_user(command.user, (), passwd, group)
            except InvalidArgument as error:
                raise RuntimeFailed(str(error)) from error
            ids = {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.additional_gids)}
            bounding = process["capabilities"]["bounding"]
            effective = bounding if user.uid == 0 else []
            sets = {"bounding": bounding, "effective": effective, "permitted": effective}
            process |= {"user": ids, "capabilities": sets}
            env["HOME"] = user.home
        env |= _variables(command.env)
        process["args"] = list(command.args)
        process["env"] = [f"{name}={value}" for name, value in env.items()]
        process["cwd"] = command.workdir or process["cwd"]
        return process

    def _spawn(self, container_id: str, cgroup: str, process: dict[str, Any]) -> Running:
        words = [self._binaries.oci, "--root", str(self._layout.oci_root)]
        words += ["--log", f"/proc/self/fd/{_LOG_FD}", "exec", "--cgroup", Path(cgroup).name]
        words += ["--process", f"/proc/self/fd/{_SPEC_FD}", container_id]
        with ExitStack() as ours, ExitStack() as kept:
            spec, log = _memory_file(), _memory_file()
            ours.callback(os.close, spec)
            kept.callback(os.close, log)
            os.write(spec, msgspec.json.encode(process))
            output, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            kept.callback(os.close, output)
            ours.callback(os.close, theirs)
            os.set_blocking(theirs, True)
            actions = [
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, theirs, 1),
                (os.POSIX_SPAWN_DUP2, theirs, 2),
                (os.POSIX_SPAWN_DUP2, spec, _SPEC_FD),
                (os.POSIX_SPAWN_DUP2, log, _LOG_FD),
            ]
            environment = conmon.ENVIRONMENT
            pid = os.posix_spawn(words[0], words, environment, file_actions=actions, setsid=True)
            pidfd = os.pidfd_open(pid)
            kept.pop_all()
        return Running(container_id, cgroup, process, pid, pidfd, output, log)

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
                cgroups.empty(self._hierarchies, running.cgroup)
                self._remember(running.cgroup)
            finally:
                code = _exit_code(running.pidfd)  # otherwise it stays as a zombie
            message = conmon.plain_message(
                os.pread(running.log, _MESSAGE_MAX, 0).decode(errors="replace")
            )
        finally:
            self._busy.discard(running.cgroup)
            for descriptor in (running.pidfd, running.output, running.log):
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


async def wait(running: Running, timeout_s: float) -> tuple[bytes, bool]:
    """Wait for a command's end; return its output, and whether the timeout came first."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    kept = bytearray()
    timed_out = False

    def read() -> None:
        if _read(running.output, kept) == b"":
            loop.remove_reader(running.output)

    def end() -> None:
        loop.remove_reader(running.pidfd)
        if not ended.done():  # the timeout may have come in the same turn
            ended.set_result(None)

    loop.add_reader(running.output, read)
    loop.add_reader(running.pidfd, end)
    try:
        async with asyncio.timeout(timeout_s):
            await ended
    except TimeoutError:
        timed_out = True
    finally:
        loop.remove_reader(running.output)
        loop.remove_reader(running.pidfd)
    while len(kept) < EXEC_OUTPUT_MAX and _read(running.output, kept):
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


def _variables(env: Iterable[str]) -> dict[str, str]:
    return {name: value for name, _, value in (entry.partition("=") for entry in env)}


def _memory_file() -> int:
    """A file in memory (a disk may be full), with a descriptor that no child uses."""
    low = os.memfd_create("exec", os.MFD_CLOEXEC)
    try:
        return fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _LOG_FD + 1)
    finally:
        os.close(low)


def _exit_code(pidfd: int) -> int:
    """Wait for a child and reap it."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(_END_TIMEOUT_S * 1000):
        raise RuntimeFailed("cannot kill the OCI runtime")
    ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    if ended is None:
        raise RuntimeFailed("cannot kill the OCI runtime")
    exited = ended.si_code == os.CLD_EXITED
    return ended.si_status if exited else 128 + ended.si_status


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


def _content(root: Root, path: str) -> bytes:
    try:
        return root.head(path, _USER_FILE_MAX)
    except OSError:
        return b""
