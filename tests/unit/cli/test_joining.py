"""What `swarm join` says while it waits, and why it ended."""

import time
from pathlib import Path

import click
import pytest

from agent.session.jointoken import refusal_recorded
from cli import client
from cli.context.model import Context
from cli.daemons import Daemon
from cli.render import terminal
from cli.swarm import joining
from cli.swarm.host import Host
from cli.swarm.leave import drain_node
from pyswarm_core.errors import (
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PyswarmError,
    Unavailable,
)

LOGS = {
    "": "the agent has logged nothing",
    "old\nx WARNING a node.join_failed controller=c:1 error='no answer from \\'x\\'' n=1\n": (
        "no answer from 'x'"
    ),
    "x WARNING a node.join_failed controller=c error=refused": "refused",
    'Error: --token: value "x" is not valid\n': '--token: value "x" is not valid',
    "Segmentation fault": "Segmentation fault",
    "d t WARNING a node.join_failed error=refused\nd t INFO a images.counted n=2\n": "refused",
    "d t INFO a images.counted n=2\n": "the agent has logged no error",
}


class Stopping:
    """A supervisor whose agent has logged something and is stopped."""

    def __init__(self, log: str) -> None:
        self.log = log
        self.stopped: list[str] = []

    def start(self, daemon: Daemon) -> None:
        raise AssertionError(daemon)

    def stop(self, daemon: Daemon) -> None:
        self.stopped.append(daemon.name)

    def runs(self, daemon: Daemon) -> bool:
        return daemon.name not in self.stopped

    def log_tail(self, daemon: Daemon, lines: int = 2) -> str:
        del daemon, lines
        return self.log


@pytest.mark.parametrize(("log", "reason"), LOGS.items())
def test_a_join_that_fails_names_the_controller_the_error_and_what_to_do(
    log: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "JOIN_TIMEOUT_S", -1.0)
    host, supervisor = Host(tmp_path, tmp_path), Stopping(log)
    with pytest.raises(PyswarmError) as refused:
        joining.wait_until_joined(host, supervisor, host.daemon("agent", ()), "10.0.0.9:2377")
    assert str(refused.value).startswith(f"cannot join through 10.0.0.9:2377: {reason}. Check ")
    assert "pyswarm swarm join-token worker" in str(refused.value)
    assert supervisor.stopped == ["agent"]


def test_a_long_join_is_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(tmp_path, tmp_path)
    host.identity.parent.mkdir()
    told = []

    def echo(line: str, *, err: bool) -> None:
        assert err
        told.append(line)
        host.identity.touch()

    monkeypatch.setattr(click, "echo", echo)
    monkeypatch.setattr(terminal, "ANNOUNCE_AFTER_S", 0.0)
    joining.wait_until_joined(host, Stopping(""), host.daemon("agent", ()), "10.0.0.9:2377")
    assert told == ["joining through 10.0.0.9:2377"]


@pytest.mark.parametrize("error", [PermissionDenied("wrong token"), InvalidArgument("wrong clock")])
def test_a_join_that_a_controller_refuses_ends_at_once(error: PyswarmError, tmp_path: Path) -> None:
    host, supervisor = Host(tmp_path, tmp_path), Stopping("d t INFO a images.counted n=2")
    host.refusal.parent.mkdir()
    with pytest.raises(type(error)), refusal_recorded(host.refusal.parent):
        raise error
    with pytest.raises(PyswarmError) as refused:
        joining.wait_until_joined(host, supervisor, host.daemon("agent", ()), "10.0.0.9:2377")
    assert str(refused.value) == f"cannot join through 10.0.0.9:2377: {error}"
    assert supervisor.stopped == ["agent"]
    assert [path.name for path in host.refusal.parent.iterdir()] == ["join-refused"]


def test_the_refusal_of_an_earlier_join_is_forgotten(tmp_path: Path) -> None:
    host = Host(tmp_path, tmp_path)
    host.refusal.parent.mkdir()
    host.refusal.write_text("wrong token")
    joining.agent_arguments(
        host, controller="c:1", token="t", advertise_addr="", availability="active"
    )
    assert not host.refusal.exists()
    host.refusal.write_text("wrong token")
    with refusal_recorded(host.refusal.parent):
        pass
    assert not host.refusal.exists()


def test_an_error_that_a_retry_may_change_is_no_refusal(tmp_path: Path) -> None:
    with pytest.raises(Unavailable), refusal_recorded(tmp_path):
        raise Unavailable("no processes left")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_join_stops_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(pause_s: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    host, supervisor = Host(tmp_path, tmp_path), Stopping("")
    with pytest.raises(KeyboardInterrupt):
        joining.wait_until_joined(host, supervisor, host.daemon("agent", ()), "10.0.0.9:2377")
    assert supervisor.stopped == ["agent"]


class Leaving:
    """A client whose controller answers `leave` with an error."""

    error: PyswarmError

    def __init__(self, context: Context) -> None:
        assert context.host == "10.0.0.9:2377"

    def __enter__(self) -> "Leaving":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def leave(self) -> int:
        raise self.error


def test_a_host_whose_node_was_removed_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = joining.Identity("n1", ("10.0.0.9:2377",))
    monkeypatch.setattr(client, "Client", Leaving)
    monkeypatch.setattr(Leaving, "error", NotFound("it was removed"), raising=False)
    drain_node(identity, force=False)
    monkeypatch.setattr(Leaving, "error", PermissionDenied("no"))
    with pytest.raises(Unavailable, match="could not be drained"):
        drain_node(identity, force=False)
