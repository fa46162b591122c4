"""Starts and ends daemons that outlive the CLI and are restarted when they die. SHELL.

A keeper is a shell loop in a session of its own: it starts the daemon, waits, starts it again.
Where systemd runs, a unit does the same and survives a reboot; inside a playground, and where there
is no systemd, the keeper does.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

KEEPER = """
for membership in $CGROUP_PROCS; do echo $$ > "$membership"; done
unset CGROUP_PROCS
echo $$ > "$1"; shift
log=$1; shift
{ renice -n "$NICE" -p $$ && echo "$NICE" > /proc/$$/autogroup; } > /dev/null 2>&1 || :
unset NICE
trap '' HUP INT
while :; do
  "$@" >> "$log" 2>&1 < /dev/null
  echo "keeper: exit $? of $1; starting it again" >> "$log"
  sleep 0.3
done
"""
"""Arguments: pid file, log file, command. The agent itself comes back in about a second."""

END_TIMEOUT_S = 10.0
CONTROLLER_NICE = -10
"""The controller and its etcd run before agents and tasks of their host, so that a busy task does
not cost the fleet its leader.
"""


class Daemon(msgspec.Struct, frozen=True, kw_only=True):
    """One daemon: `module` is started as `python -m MODULE ARGUMENTS`."""

    name: str
    module: str
    arguments: tuple[str, ...]
    directory: Path
    """Holds NAME.pid (the keeper's) and NAME.log."""
    netns: Path | None = None
    mountns: Path | None = None
    """Files of the namespaces in which keeper and daemon run; None is the current one."""
    cgroup_procs: tuple[Path, ...] = ()
    """Files that take the keeper's pid, so that all its children are in those cgroups."""
    nice: int = 0
    """As nice(1) counts; where that is not allowed it stays 0. The kernel weighs sessions first
    (`autogroup`, sched(7)), so a keeper sets its session's niceness too.
    """

    @property
    def pid_file(self) -> Path:
        return self.directory / f"{self.name}.pid"

    @property
    def log_file(self) -> Path:
        return self.directory / f"{self.name}.log"

    def command(self) -> list[str]:
        """The keeper, which runs the daemon."""
        keeper = ["sh", "-c", KEEPER, "keeper", str(self.pid_file), str(self.log_file)]
        daemon = [sys.executable, "-m", self.module, *self.arguments]
        return [*entering(self.netns, self.mountns), *keeper, *daemon]


def entering(netns: Path | None, mountns: Path | None) -> list[str]:
    """The beginning of a command line that is run in these namespaces."""
    files = {"net": netns, "mount": mountns}
    flags = [f"--{kind}={file}" for kind, file in files.items() if file]
    return ["nsenter", *flags, "--"] if flags else []


def start(daemon: Daemon) -> None:
    """Start the daemon under a keeper; no-op if its keeper lives."""
    if keeper_of(daemon.pid_file):
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
    while not keeper_of(daemon.pid_file):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{daemon.name} did not start; see {daemon.log_file}")
        time.sleep(0.01)


def keeper_of(pid_file: Path) -> int:
    """The living keeper's pid; 0 if there is none."""
    try:
        pid = int(pid_file.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return 0
    return pid if os.fsencode(pid_file) in words else 0


def daemon_pids(pid_file: Path) -> list[int]:
    """The pids of what the keeper runs now."""
    keeper = keeper_of(pid_file)
    return children(keeper) if keeper else []


def stop(pid_file: Path, *, patience_s: float = END_TIMEOUT_S) -> None:
    """End the keeper, then its daemon: SIGTERM, and SIGKILL when patience ends."""
    keeper = keeper_of(pid_file)
    running = children(keeper) if keeper else []
    if keeper:
        kill([keeper])
    for pid in running:
        _signal(pid, signal.SIGTERM)
    if not wait_gone(running, patience_s):
        kill(running)
    pid_file.unlink(missing_ok=True)


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def kill(pids: Iterable[int]) -> None:
    """SIGKILL; pids that are gone are no error."""
    for pid in pids:
        _signal(pid, signal.SIGKILL)


def wait_gone(pids: Sequence[int], patience_s: float) -> bool:
    """Whether all have ended within `patience_s` (zombies count as ended)."""
    deadline = time.monotonic() + patience_s
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
