"""conmon: the monitor process that holds a container's stdio, log and exit status. SHELL.

Each container has one conmon, started in a session of its own; it outlives the agent. It reports
over a pipe when the OCI runtime's `create` has ended, and writes `<exits>/<id>` when the container
ends.
"""

import fcntl
import os
import re
import select
from contextlib import ExitStack
from pathlib import Path

import msgspec

from agent.runtime.base import LogLimits, RuntimeFailed
from agent.runtime.cgroups import MonitorGroup

# The descriptors of conmon's two pipes; far above any that conmon opens before it reads them.
_SYNC_FD, _START_FD = 100, 101
_STDERR = 2
_REPORT_MAX = 1 << 16
_MESSAGE_MAX = 1024
_END_TIMEOUT_S = 5.0

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


class Binaries(msgspec.Struct, frozen=True):
    """The programs a runtime uses, by path; `kind` is `crun` or `runc`, `version` the latter's."""

    conmon: str
    oci: str
    kind: str
    version: str = ""


class MonitorCall(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of one conmon."""

    container_id: str
    bundle: str
    root: str
    exits: str
    log_path: str
    log_limits: LogLimits
    terminal: bool
    stdin: bool = False
    stdin_once: bool = False


class Monitor(msgspec.Struct, frozen=True):
    """A started conmon, and its output until the container is made."""

    pid: int
    report: int
    """The read end of the pipe that it reports on."""
    stderr: int
    """The memory file that is its standard error: it needs no inode of a disk that may be full."""


class _Report(msgspec.Struct):
    data: int
    message: str = ""


def arguments(binaries: Binaries, call: MonitorCall) -> list[str]:
    """conmon's command line. PURE.

    `--sync` saves a fork: conmon is detached anyway, since it has a session of its own. conmon
    bounds the log, also while no agent runs; the agent keeps the files that conmon replaces.
    """
    words = [binaries.conmon, "--api-version", "1", "--sync", "--full-attach", "--no-sync-log"]
    words += ["-c", call.container_id, "-u", call.container_id, "-n", call.container_id]
    words += ["-r", binaries.oci, "--runtime-arg", "--root", "--runtime-arg", call.root]
    words += ["-b", call.bundle, "-p", f"{call.bundle}/pid", "--exit-dir", call.exits]
    words += ["-l", f"k8s-file:{call.log_path}" if call.log_limits.stored else "none"]
    if call.log_limits.max_size:
        words += ["--log-size-max", str(call.log_limits.max_size)]
    if call.terminal:
        words.append("--terminal")
    elif call.stdin:
        words.append("--stdin")
    if call.terminal or not call.stdin_once:
        words.append("--leave-stdin-open")
    return words


def start(words: list[str], group: MonitorGroup) -> Monitor:
    """Start conmon as a child of this process."""
    environment = ENVIRONMENT | {"_OCI_SYNCPIPE": str(_SYNC_FD)}
    with ExitStack() as ours, ExitStack() as kept:
        stderr = os.memfd_create("conmon", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        kept.callback(os.close, stderr)
        report_read, report_write = os.pipe()
        kept.callback(os.close, report_read)
        ours.callback(os.close, report_write)
        actions = [
            (os.POSIX_SPAWN_DUP2, report_write, _SYNC_FD),
            (os.POSIX_SPAWN_DUP2, stderr, _STDERR),
        ]
        start_write = -1
        if group.adopts:
            start_read, start_write = os.pipe()
            ours.callback(os.close, start_read)
            ours.callback(os.close, start_write)
            environment["_OCI_STARTPIPE"] = str(_START_FD)
            actions.append((os.POSIX_SPAWN_DUP2, start_read, _START_FD))
        pid = os.posix_spawn(words[0], words, environment, file_actions=actions, setsid=True)
        if group.adopts:
            group.adopt(pid)
            os.write(start_write, b"\0")
        kept.pop_all()
    return Monitor(pid, report_read, stderr)


def read_report(monitor: Monitor, timeout_s: float) -> int:
    """Wait for conmon's report; return the container's pid. Closes the monitor's descriptors.

    Raises RuntimeFailed with the OCI runtime's message, or conmon's.
    """
    try:
        line = _report_line(monitor.report, timeout_s)
        if not line:
            raise RuntimeFailed(f"conmon {_ending(monitor.pid)}: {_stderr_of(monitor.stderr)}")
        report = msgspec.json.decode(line, type=_Report)
        if report.data <= 0:
            message = plain_message(report.message) or _stderr_of(monitor.stderr)
            raise RuntimeFailed(message)
        # Nobody reads what it writes from here on, and it must use no memory.
        fcntl.fcntl(monitor.stderr, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    finally:
        os.close(monitor.report)
        os.close(monitor.stderr)
    return report.data


def _report_line(pipe: int, timeout_s: float) -> bytes:
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    if not poll.poll(timeout_s * 1000):
        raise RuntimeFailed(f"the OCI runtime did not finish within {timeout_s:g} s")
    return os.read(pipe, _REPORT_MAX).split(b"\n", 1)[0]


def _ending(pid: int) -> str:
    """How a child that closed its pipe ended; the caller reaps it."""
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll(_END_TIMEOUT_S * 1000)
        ended = os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    finally:
        os.close(descriptor)
    if ended is None:
        return "closed its pipe"
    how = "exited with" if ended.si_code == os.CLD_EXITED else "was killed by signal"
    return f"{how} {ended.si_status}"


def _stderr_of(file: int) -> str:
    """What conmon wrote to its standard error, without prefixes, in one line of bounded length."""
    raw = os.pread(file, _REPORT_MAX, 0).decode(errors="replace")
    lines = (re.sub(r"^\[conmon:[a-z]+\]: ", "", line).strip() for line in raw.split("\n"))
    return "; ".join(filter(None, lines))[-_MESSAGE_MAX:] or "it gave no reason"


def plain_message(raw: str) -> str:
    """The message in an OCI runtime's error output; runc wraps it in a log line. PURE."""
    text = raw.strip()
    _, found, rest = text.partition(' msg="')
    if found:
        text = rest.rpartition('"')[0].replace('\\"', '"')
    return text.removeprefix("runc create failed: ").removeprefix("exec failed: ")


def reopen_log(bundle: Path) -> bool:
    """Have conmon close its log and open a new one at the same path; False if it has ended."""
    try:
        control = os.open(bundle / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(control, b"2 0 0\n")
    finally:
        os.close(control)
    return True
