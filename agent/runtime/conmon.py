"""conmon: the small process that holds a container's stdio, log and exit status. SHELL.

One conmon per container, started in a session of its own; it outlives the agent. It reports over a
pipe once the OCI runtime's `create` is through and writes `<exits>/<id>` when the container ends.
"""

import os
import select
from pathlib import Path

import msgspec

from agent.runtime.base import LogLimits, RuntimeFailed
from agent.runtime.cgroups import MonitorGroup

# Where a started conmon finds its two pipes; far above anything conmon opens before it reads them.
_SYNC_FD, _START_FD = 100, 101
_REPORT_MAX = 1 << 16

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


class Binaries(msgspec.Struct, frozen=True):
    """The programs a runtime uses, by path; `kind` is `crun` or `runc`, `version` the latter's."""

    conmon: str
    oci: str
    kind: str
    version: str = ""


class MonitorCall(msgspec.Struct, frozen=True, kw_only=True):
    """What one conmon is told."""

    container_id: str
    bundle: str
    root: str
    exits: str
    log_path: str
    log_limits: LogLimits
    terminal: bool


class _Report(msgspec.Struct):
    data: int
    message: str = ""


def arguments(binaries: Binaries, call: MonitorCall) -> list[str]:
    """conmon's command line. PURE.

    `--sync` spares a fork: conmon detaches all the same, having its own session. A log of several
    files is rotated by the agent alone: conmon's own limit counts on when the agent has it open a
    new file, and then throws the current one away.
    """
    words = [binaries.conmon, "--api-version", "1", "--sync", "--full-attach", "--no-sync-log"]
    words += ["-c", call.container_id, "-u", call.container_id, "-n", call.container_id]
    words += ["-r", binaries.oci, "--runtime-arg", "--root", "--runtime-arg", call.root]
    words += ["-b", call.bundle, "-p", f"{call.bundle}/pid", "--exit-dir", call.exits]
    words += ["-l", f"k8s-file:{call.log_path}"]
    if call.log_limits.max_size and call.log_limits.max_file <= 1:
        words += ["--log-size-max", str(call.log_limits.max_size)]
    if call.terminal:
        words.append("--terminal")
    return words


def start(words: list[str], group: MonitorGroup) -> tuple[int, int]:
    """Start conmon; return its pid and the pipe it will report on. It is the caller's child."""
    report_read, report_write = os.pipe()
    start_read, start_write = os.pipe()
    environment = ENVIRONMENT | {"_OCI_SYNCPIPE": str(_SYNC_FD)}
    actions = [(os.POSIX_SPAWN_DUP2, report_write, _SYNC_FD)]
    if group.adopts:
        environment["_OCI_STARTPIPE"] = str(_START_FD)
        actions.append((os.POSIX_SPAWN_DUP2, start_read, _START_FD))
    try:
        pid = os.posix_spawn(words[0], words, environment, file_actions=actions, setsid=True)
        group.adopt(pid)
        if group.adopts:
            os.write(start_write, b"\0")
    except BaseException:
        os.close(report_read)
        raise
    finally:
        for descriptor in (report_write, start_read, start_write):
            os.close(descriptor)
    return pid, report_read


def read_report(pipe: int, timeout_s: float) -> int:
    """Wait for conmon's word; return the container's pid. Closes the pipe.

    Raises RuntimeFailed with the OCI runtime's own message.
    """
    try:
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        if not poll.poll(timeout_s * 1000):
            raise RuntimeFailed(f"the OCI runtime did not finish within {timeout_s:g} s")
        line = os.read(pipe, _REPORT_MAX).split(b"\n", 1)[0]
    finally:
        os.close(pipe)
    if not line:
        raise RuntimeFailed("the monitor ended before the container was made")
    report = msgspec.json.decode(line, type=_Report)
    if report.data <= 0:
        raise RuntimeFailed(plain_message(report.message))
    return report.data


def plain_message(raw: str) -> str:
    """The sentence in an OCI runtime's error output: runc wraps it in a log line. PURE."""
    text = raw.strip()
    _, found, rest = text.partition(' msg="')
    if found:
        text = rest.rpartition('"')[0].replace('\\"', '"')
    return text.removeprefix("runc create failed: ") or "the OCI runtime failed without a message"


def reopen_log(bundle: Path) -> bool:
    """Tell conmon to close its log and open a fresh one at the same path; False if it is gone."""
    try:
        control = os.open(bundle / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(control, b"2 0 0\n")
    finally:
        os.close(control)
    return True
