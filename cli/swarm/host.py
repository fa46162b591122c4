"""The controller and the agent of this host: their files and their supervisor. SHELL.

The supervisor is systemd where it runs, with units that survive a reboot and do not stop containers
with the agent. Elsewhere it is the shell loop of cli/daemons.py.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from cli import daemons
from cli.daemons import Daemon
from pyswarm_core.errors import PyswarmError, Unavailable
from pyswarm_core.plaintext import split_lines

STATE_DIR = Path("/var/lib/pyswarm")
RUN_DIR = Path("/run/pyswarm")
SYSTEMD = Path("/run/systemd/system")
UNITS = Path("/etc/systemd/system")
LOG_LINES = 2
JOIN_LOG_LINES = 20
"""Enough for the last error of an agent that joins."""

_UNIT = """\
[Unit]
Description=pyswarm {name}
After=network-online.target
Wants=network-online.target

[Service]
ExecStartPre=/bin/mkdir -p {directory}
ExecStart={command}
Environment=PYTHONPATH={path} PYTHONUNBUFFERED=1
Nice={nice}
Restart=always
RestartSec=300ms
# Containers outlive their agent.
KillMode=process
Delegate=yes
TasksMax=infinity
LimitNOFILE=1048576

[Install]
WantedBy=multi-user.target
"""


class Host(msgspec.Struct, frozen=True):
    """The directories of this host's daemons."""

    state_dir: Path = STATE_DIR
    run_dir: Path = RUN_DIR

    @property
    def socket(self) -> Path:
        return self.run_dir / "pyswarm.sock"

    @property
    def identity(self) -> Path:
        """The file that exists once the agent has joined."""
        return self.state_dir / "agent" / "identity.json"

    @property
    def refusal(self) -> Path:
        """The file with the error of a join that no retry changes."""
        return self.state_dir / "agent" / "join-refused"

    def daemon(self, name: str, arguments: Sequence[str]) -> Daemon:
        """The controller or the agent, with these arguments."""
        return Daemon(
            name=name,
            module=name,
            arguments=tuple(arguments),
            directory=self.run_dir,
            nice=daemons.CONTROLLER_NICE if name == "controller" else 0,
        )


class Supervisor(Protocol):
    """Starts daemons and restarts those that exit."""

    def start(self, daemon: Daemon) -> None:
        """Start a daemon; no-op if it runs."""

    def stop(self, daemon: Daemon) -> None:
        """Stop a daemon; no-op if it does not run."""

    def runs(self, daemon: Daemon) -> bool:
        """Whether the daemon is supervised."""

    def log_tail(self, daemon: Daemon, lines: int = LOG_LINES) -> str:
        """The last lines of its log."""


class ShellLoops:
    """Supervision by the shell loops of cli/daemons.py."""

    def start(self, daemon: Daemon) -> None:
        daemons.start(daemon)

    def stop(self, daemon: Daemon) -> None:
        daemons.stop(daemon.pid_file)

    def runs(self, daemon: Daemon) -> bool:
        return bool(daemons.supervisor_of(daemon.pid_file))

    def log_tail(self, daemon: Daemon, lines: int = LOG_LINES) -> str:
        try:
            found = split_lines(daemon.log_file.read_text(errors="replace"))
        except FileNotFoundError:
            return ""
        own = [line for line in found if not line.startswith("supervisor: ")]
        return "\n".join(own[-lines:])


class Systemd:
    """Supervision by systemd units."""

    def start(self, daemon: Daemon) -> None:
        path = UNITS / _unit(daemon)
        path.write_text(unit_text(daemon))
        # Only root needs the arguments. They have no secret: every user can read a command line.
        path.chmod(0o600)
        _systemctl("daemon-reload")
        _systemctl("enable", "--now", _unit(daemon))

    def stop(self, daemon: Daemon) -> None:
        if self.runs(daemon) or (UNITS / _unit(daemon)).exists():
            _systemctl("disable", "--now", _unit(daemon))
            (UNITS / _unit(daemon)).unlink(missing_ok=True)
            _systemctl("daemon-reload")

    def runs(self, daemon: Daemon) -> bool:
        command = ["systemctl", "is-active", "--quiet", _unit(daemon)]
        return subprocess.run(command, check=False).returncode == 0

    def log_tail(self, daemon: Daemon, lines: int = LOG_LINES) -> str:
        command = ["journalctl", "-u", _unit(daemon), "-n", str(lines), "-o", "cat"]
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout


def host_supervisor() -> Supervisor:
    """The supervisor of this host. Raises Unavailable without root."""
    if os.geteuid() != 0:
        raise Unavailable("this command starts and stops the host's daemons: run it as root")
    return Systemd() if SYSTEMD.is_dir() else ShellLoops()


def unit_text(daemon: Daemon) -> str:
    """The systemd unit of a daemon, with `%` and `$` in arguments escaped."""
    command = shlex.join([sys.executable, "-m", daemon.module, *daemon.arguments])
    escaped = command.replace("%", "%%").replace("$", "$$")
    path = Path(__file__).resolve().parents[2]
    return _UNIT.format(
        name=daemon.name,
        command=escaped,
        path=path,
        directory=daemon.directory,
        nice=daemon.nice,
    )


def _unit(daemon: Daemon) -> str:
    return f"pyswarm-{daemon.name}.service"


def _systemctl(*arguments: str) -> None:
    done = subprocess.run(["systemctl", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise PyswarmError(f"systemctl {arguments[0]} failed: {done.stderr.strip()}")
