"""Starts and stops daemons that outlive the CLI and are restarted when they exit. SHELL.

A supervisor is a shell loop in its own session that starts the daemon again whenever it exits.
Playgrounds and hosts without systemd use it; elsewhere a systemd unit does the same and survives a
reboot.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

SUPERVISOR = """
for membership in $CGROUP_PROCS; do echo $$ > "$membership"; done
unset CGROUP_PROCS
echo $$ > "$1"; shift
log=$1; shift
{ renice -n "$NICE" -p $$ && echo "$NICE" > /proc/$$/autogroup; } > /dev/null 2>&1 || :
unset NICE
trap '' HUP INT
while :; do
  "$@" >> "$log" 2>&1 < /dev/null
  echo "supervisor: $1 exited with code $?; restarting" >> "$log"
  sleep 0.3
done
"""
"""Arguments: pid file, log file, command. An agent is back after about a second."""

END_TIMEOUT_S = 10.0
CONTROLLER_NICE = -10
"""Niceness of the controller and its etcd. They run before agents and tasks of their host, so that
a busy task does not end the leader's lease.
"""


class Daemon(msgspec.Struct, frozen=True, kw_only=True):
    """A daemon, started as `python -m MODULE ARGUMENTS`."""

    name: str
    module: str
    arguments: tuple[str, ...]
    directory: Path
    """Holds NAME.pid, the supervisor's pid, and NAME.log."""
    netns: Path | None = None
    mountns: Path | None = None
    """Files of the namespaces in which supervisor and daemon run; None: the current one."""
    cgroup_procs: tuple[Path, ...] = ()
    """The cgroup.procs files of the cgroups of the supervisor and so of its children."""
    nice: int = 0
    """As in nice(1); 0 where setting it is not permitted. The kernel weighs sessions first
    (`autogroup`, sched(7)), so a supervisor sets the niceness of its session, too.
    """

    @property
    def pid_file(self) -> Path:
        return self.directory / f"{self.name}.pid"

    @property
    def log_file(self) -> Path:
        return self.directory / f"{self.name}.log"

    def command(self) -> list[str]:
        """The command line of the supervisor, which runs the daemon."""
        loop = ["sh", "-c", SUPERVISOR, "supervisor", str(self.pid_file), str(self.log_file)]
        daemon = [sys.executable, "-m", self.module, *self.arguments]
        return [*entering(self.netns, self.mountns), *loop, *daemon]


def entering(netns: Path | None, mountns: Path | None) -> list[str]:
    """The prefix of a command line that runs in these namespaces."""
    files = {"net": netns, "mount": mountns}
    flags = [f"--{kind}={file}" for kind, file in files.items() if file]
    return ["nsenter", *flags, "--"] if flags else []


def start(daemon: Daemon) -> None:
    """Start the daemon under a supervisor; no-op if that runs already. Raises TimeoutError."""
    if supervisor_of(daemon.pid_file):
        return
    daemon.directory.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "CGROUP_PROCS": " ".join(map(str, daemon.cgroup_procs)),
        "NICE": str(daemon.nice),
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        "PYTHONUNBUFFERED": "1",
    }
    subprocess.Popen(
        daemon.command(),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    deadline = time.monotonic() + END_TIMEOUT_S
    while not supervisor_of(daemon.pid_file):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{daemon.name} did not start; see {daemon.log_file}")
        time.sleep(0.01)


def supervisor_of(pid_file: Path) -> int:
    """The pid of the running supervisor; 0 if there is none."""
    try:
        pid = int(pid_file.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return 0
    return pid if os.fsencode(pid_file) in words else 0


def daemon_pids(pid_file: Path) -> list[int]:
    """The pids of the supervisor's children."""
    supervisor = supervisor_of(pid_file)
    return children(supervisor) if supervisor else []


def stop(pid_file: Path, *, timeout_s: float = END_TIMEOUT_S) -> None:
    """Stop the supervisor, then its daemon: SIGTERM, and SIGKILL after `timeout_s`."""
    supervisor = supervisor_of(pid_file)
    running = children(supervisor) if supervisor else []
    if supervisor:
        kill([supervisor])
    for pid in running:
        _signal(pid, signal.SIGTERM)
    if not wait_gone(running, timeout_s):
        kill(running)
    pid_file.unlink(missing_ok=True)


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def kill(pids: Iterable[int]) -> None:
    """Send SIGKILL; a pid without a process is no error."""
    for pid in pids:
        _signal(pid, signal.SIGKILL)


def wait_gone(pids: Sequence[int], timeout_s: float) -> bool:
    """Whether all have ended within `timeout_s`; zombies count as ended."""
    deadline = time.monotonic() + timeout_s
    while any(_alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
