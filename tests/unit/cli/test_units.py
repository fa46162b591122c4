"""What `swarm init` and `swarm join` write for systemd."""

import shlex
import sys
from pathlib import Path

import pytest

from cli.swarm import host, joining
from cli.swarm.host import Host, Systemd


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What systemctl was asked; units go to a folder of the test's own."""
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(host, "UNITS", tmp_path)
    monkeypatch.setattr(host, "_systemctl", lambda *words: asked.append(words))
    monkeypatch.setattr(Systemd, "runs", lambda self, daemon: False)
    return asked


def test_a_started_daemon_is_a_unit_that_only_root_reads(
    tmp_path: Path, called: list[tuple[str, ...]]
) -> None:
    agent = Host(Path("/s")).daemon("agent", ("--config=/etc/a", "--label=a=$x 100%"))
    Systemd().start(agent)
    unit = tmp_path / "pyswarm-agent.service"
    assert unit.stat().st_mode & 0o777 == 0o600
    assert called == [("daemon-reload",), ("enable", "--now", "pyswarm-agent.service")]
    lines = dict(line.split("=", 1) for line in unit.read_text().splitlines() if "=" in line)
    # systemd reads $$ and %% as one; its quoting of words is the shell's.
    command = shlex.split(lines["ExecStart"].replace("$$", "$").replace("%%", "%"))
    assert command == [sys.executable, "-m", "agent", *agent.arguments]
    assert (lines["Restart"], lines["KillMode"], lines["Delegate"]) == ("always", "process", "yes")
    assert lines["WantedBy"] == "multi-user.target"


def test_a_unit_names_the_file_of_the_join_token_and_not_the_token(
    tmp_path: Path, called: list[tuple[str, ...]]
) -> None:
    own = Host(tmp_path / "state")
    arguments = joining.agent_arguments(
        own,
        controller="10.0.0.9:2377",
        token="PYSWM-1-a-b",
        advertise_addr="",
        availability="active",
    )
    Systemd().start(own.daemon("agent", arguments))
    assert called
    text = (tmp_path / "pyswarm-agent.service").read_text()
    file = tmp_path / "state/agent/join-token"
    assert f"--join-token-file={file}" in text
    assert "PYSWM" not in text
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("PYSWM-1-a-b", 0o600)


def test_a_stopped_daemon_leaves_no_unit(tmp_path: Path, called: list[tuple[str, ...]]) -> None:
    controller = Host(Path("/s")).daemon("controller", ())
    Systemd().start(controller)
    Systemd().stop(controller)
    assert list(tmp_path.iterdir()) == []
    assert called[-2:] == [("disable", "--now", "pyswarm-controller.service"), ("daemon-reload",)]
    Systemd().stop(controller)
    assert len(called) == 4
