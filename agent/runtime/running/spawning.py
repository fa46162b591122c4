"""Starting `crun exec` with the stdio of a command, and waiting for its end. SHELL."""

import fcntl
import os
import select
import signal
import socket
import struct
import termios
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec

from agent.runtime import conmon
from agent.runtime.base import RuntimeFailed

SPEC_FD, LOG_FD = 3, 4
_SIZE_MAX = 0xFFFF
_END_TIMEOUT_S = 10.0
_PIPE_BYTES = 1024 * 1024
"""Of a pipe: two of the largest frames, so that one is filled while the other is sent."""
_CONSOLE_TIMEOUT_S = 60.0


class Stdio(msgspec.Struct):
    """The descriptors of this process at a command's stdio, which do not block; -1: none. With a
    terminal `stdin` and `output` are its master.
    """

    stdin: int = -1
    output: int = -1
    errors: int = -1

    def close(self) -> None:
        """Close them all."""
        for descriptor in {self.stdin, self.output, self.errors} - {-1}:
            os.close(descriptor)


class Spawned(msgspec.Struct):
    """A running OCI runtime. `log` is the file of its own messages."""

    pid: int
    pidfd: int
    log: int
    stdio: Stdio


def spawn(
    words: Sequence[str], process: dict[str, Any], *, stdin: bool = False, errors: bool = False
) -> Spawned:
    """Start the OCI runtime, with pipes: a command without `stdin` reads /dev/null; without
    `errors` its stdout and stderr are one pipe.
    """
    with ExitStack() as ours, ExitStack() as kept:
        stdio = Stdio()
        kept.callback(stdio.close)
        actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
        if stdin:
            theirs, stdio.stdin = pipe(reads=False)
            ours.callback(os.close, theirs)
            actions = [(os.POSIX_SPAWN_DUP2, theirs, 0)]
        theirs, stdio.output = pipe(reads=True)
        ours.callback(os.close, theirs)
        actions.append((os.POSIX_SPAWN_DUP2, theirs, 1))
        if errors:
            theirs, stdio.errors = pipe(reads=True)
            ours.callback(os.close, theirs)
        actions.append((os.POSIX_SPAWN_DUP2, theirs, 2))
        spawned = _spawn(words, process, actions, stdio)
        kept.pop_all()
        return spawned


def spawn_without(words: Sequence[str], process: dict[str, Any]) -> Spawned:
    """Start the OCI runtime with /dev/null as the command's stdio."""
    actions = [(os.POSIX_SPAWN_OPEN, n, "/dev/null", os.O_RDWR, 0) for n in range(3)]
    return _spawn(words, process, actions, Stdio())


def spawn_with_terminal(
    words: Sequence[str], process: dict[str, Any], console: Path, size: tuple[int, int]
) -> Spawned:
    """Start the OCI runtime of a command with a terminal of that size (rows and columns), whose
    master it sends to the socket `console`, a path that does not exist yet. A runtime that ends
    before has failed.
    """
    words = [*words[:-1], "--tty", "--console-socket", str(console), words[-1]]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(console))
        try:
            listener.listen(1)
            spawned = spawn_without(words, process)
            master = _master(listener, spawned.pidfd)
        finally:
            console.unlink(missing_ok=True)
    if master < 0:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(spawned.pidfd, signal.SIGKILL)
    else:
        os.set_blocking(master, False)
        spawned.stdio = Stdio(stdin=master, output=master)
        # crun 1.8's exec does not heed `consoleSize`: the program may run for a moment without a
        # size, and gets a SIGWINCH.
        resize(spawned.stdio, *size)
    return spawned


def spawn_on_terminal(
    words: Sequence[str], process: dict[str, Any], size: tuple[int, int]
) -> Spawned:
    """The same for runc, which sends masters only of commands that it does not wait for: it gets a
    terminal of the host as its own, and copies between this and the command's, also the size.
    """
    words = [*words[:-1], "--tty", words[-1]]
    master, slave = os.openpty()
    with ExitStack() as kept:
        kept.callback(os.close, master)
        try:
            stdio = Stdio(stdin=master, output=master)
            os.set_blocking(master, False)
            resize(stdio, *size)
            # The runtime begins a session; the first terminal that it opens is the session's.
            actions = [(os.POSIX_SPAWN_OPEN, n, os.ttyname(slave), os.O_RDWR, 0) for n in range(3)]
            spawned = _spawn(words, process, actions, stdio)
        finally:
            os.close(slave)
        kept.pop_all()
    return spawned


def resize(stdio: Stdio, rows: int, columns: int) -> None:
    """Set the size of the terminal."""
    size = struct.pack("HHHH", min(rows, _SIZE_MAX), min(columns, _SIZE_MAX), 0, 0)
    fcntl.ioctl(stdio.stdin, termios.TIOCSWINSZ, size)


def exit_code(pidfd: int) -> int:
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


def _spawn(
    words: Sequence[str], process: dict[str, Any], actions: list[tuple[Any, ...]], stdio: Stdio
) -> Spawned:
    with ExitStack() as ours, ExitStack() as kept:
        spec, log = _memory_file(), _memory_file()
        ours.callback(os.close, spec)
        kept.callback(os.close, log)
        os.write(spec, msgspec.json.encode(process))
        actions = [
            *actions,
            (os.POSIX_SPAWN_DUP2, spec, SPEC_FD),
            (os.POSIX_SPAWN_DUP2, log, LOG_FD),
        ]
        environment = conmon.ENVIRONMENT
        pid = os.posix_spawn(words[0], [*words], environment, file_actions=actions, setsid=True)
        pidfd = os.pidfd_open(pid)
        kept.pop_all()
    return Spawned(pid, pidfd, log, stdio)


def pipe(*, reads: bool) -> tuple[int, int]:
    """A pipe: the child's end, then this process's, which does not block."""
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    with suppress(OSError):  # the host's limit
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    theirs, ours = (writing, reading) if reads else (reading, writing)
    os.set_blocking(theirs, True)
    return theirs, ours


def _master(listener: socket.socket, pidfd: int) -> int:
    """The descriptor that arrives at the socket; -1 if the process ends before or hangs."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    ready = [descriptor for descriptor, _ in poll.poll(_CONSOLE_TIMEOUT_S * 1000)]
    if listener.fileno() not in ready:
        return -1
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(_CONSOLE_TIMEOUT_S)
        try:
            _, found, _, _ = socket.recv_fds(connection, 4096, 1)
        except TimeoutError:
            return -1
    for master in found:
        os.set_inheritable(master, False)
    return found[0] if found else -1


def _memory_file() -> int:
    """A file in memory (a disk may be full), with a descriptor that no child uses."""
    low = os.memfd_create("exec", os.MFD_CLOEXEC)
    try:
        return fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, LOG_FD + 1)
    finally:
        os.close(low)
