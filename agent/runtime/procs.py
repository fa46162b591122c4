"""Processes by pid and start time, signalled and awaited through pidfds. SHELL over /proc.

Invariant: a pid that the kernel has reused for another process is never signalled or awaited.
"""

import errno
import os
import select
import signal as signals
from pathlib import Path

import msgspec


class Process(msgspec.Struct, frozen=True):
    """One process, unique since boot: `started` is in clock ticks since boot. pid 0: no process."""

    pid: int = 0
    started: int = 0


def identify(pid: int) -> Process:
    """The process that has `pid` now; pid 0 if there is none."""
    return Process(pid, started) if (started := _start_time(pid)) else Process()


def _start_time(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # The second field is the program's name, of any characters; the rest follows the last `)`.
    state, *fields = text[text.rindex(b")") + 2 :].split()
    return 0 if state in (b"Z", b"X") else int(fields[18])


def is_alive(process: Process) -> bool:
    """Whether this process still runs; a zombie does not."""
    return process.pid > 0 and _start_time(process.pid) == process.started


def _open(pid: int) -> int | None:
    """A pidfd; None if there is no such process. The number may still be that of a process group or
    session whose other processes live, in the host's PID namespace: then some kernels say EINVAL.
    """
    if pid <= 0:
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return None


def open_process(process: Process) -> int | None:
    """A pidfd of this process, or None if it has ended. The caller closes it."""
    descriptor = _open(process.pid)
    if descriptor is None:
        return None
    if _start_time(process.pid) != process.started:
        os.close(descriptor)
        return None
    return descriptor


def send(process: Process, signal: int) -> None:
    """Signal the process if it still runs."""
    descriptor = open_process(process)
    if descriptor is None:
        return
    try:
        signals.pidfd_send_signal(descriptor, signal)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)


def wait_gone(process: Process, timeout_s: float) -> bool:
    """Block until the process has ended, at most `timeout_s`; return whether it has."""
    descriptor = open_process(process)
    if descriptor is None:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))
    finally:
        os.close(descriptor)


def open_ended(process: Process) -> int | None:
    """Like `open_process`, and also for a zombie."""
    descriptor = _open(process.pid)
    if descriptor is None:
        return None
    if _start_time(process.pid) in (0, process.started):
        return descriptor
    os.close(descriptor)
    return None


def reap(descriptor: int) -> None:
    """Reap the ended child of a pidfd; a process that is no child is left alone."""
    try:
        os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return


def find_by_argument(program: str, argument: str) -> Process:
    """The process of a program that has `argument` on its command line; pid 0 if there is none."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if Path(words[0].decode(errors="replace")).name == program and argument.encode() in words:
            return identify(int(entry.name))
    return Process()
