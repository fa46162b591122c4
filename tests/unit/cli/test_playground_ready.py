"""When a healed host counts as ready, and what is said until then."""

from collections.abc import Callable, Iterator
from itertools import chain, repeat

import pytest

from cli.exits import ExitCode
from cli.playground import boot, fleet, ready
from cli.playground.fleet import Fleet, Host
from pyswarm_core.states import NodeState
from tests.unit.cli.conftest import Pyswarm

CONNECTED = {"pyswarm_agent_session_connected": 1.0}
CONFIGURED = {**CONNECTED, "pyswarm_agent_network_revision": 7.0}
PLAN = Fleet(name="lab", nodes=3)


@pytest.mark.parametrize(
    ("metrics", "state", "lacks"),
    [
        ({}, NodeState.READY, "the agent is starting"),
        (
            {"pyswarm_agent_session_connected": 0.0},
            NodeState.READY,
            "the agent is connecting to the controller",
        ),
        (CONNECTED, NodeState.READY, "the agent is configuring the network"),
        (CONFIGURED, NodeState.DOWN, "the node is down"),
        (CONFIGURED, NodeState.READY, ""),
    ],
)
def test_a_host_is_ready_when_its_agent_serves_and_the_leader_says_so(
    metrics: dict[str, float], state: NodeState, lacks: str
) -> None:
    assert ready.missing(metrics, state) == lacks


class _Time:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def _waited(looks: Iterator[str]) -> tuple[str, list[str], float]:
    time, said = _Time(), list[str]()
    lacks = ready.wait(lambda: next(looks), said.append, clock=lambda: time.now, sleep=time.sleep)
    return lacks, said, time.now


def test_a_wait_of_less_than_a_second_says_nothing() -> None:
    assert _waited(chain(repeat("the agent is starting", 15), [""]))[:2] == ("", [])


def test_a_longer_wait_says_each_thing_that_is_missing_once() -> None:
    looks = chain(repeat("the agent is starting", 30), repeat("the node is down", 30), [""])
    assert _waited(looks)[:2] == ("", ["the agent is starting", "the node is down"])


def test_a_wait_is_bounded() -> None:
    lacks, said, took = _waited(repeat("the node is down"))
    assert (lacks, said) == ("the node is down", ["the node is down"])
    assert 120 < took < 121


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> None:
    """A playground whose hosts come back at once, and never become ready."""
    monkeypatch.setattr("cli.playground.commands._require_root", lambda: None)
    monkeypatch.setattr(fleet, "load", lambda _: PLAN)
    monkeypatch.setattr(boot, "require_here", lambda _: None)
    monkeypatch.setattr(boot, "heal", lambda plan, _: plan)
    monkeypatch.setattr(ready, "wait_for_host", lambda *_: "the agent is starting")


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize("flag", ["-d", "--detach", "--detach=true"])
def test_a_detached_heal_does_not_wait(pyswarm: Pyswarm, flag: str) -> None:
    ran = pyswarm("playground", "heal", flag, "host3")
    assert (ran.code, ran.out, ran.err) == (ExitCode.SUCCESS, "host3 is back.\n", "")


@pytest.mark.usefixtures("lab")
def test_a_heal_of_a_host_that_does_not_become_ready_says_what_to_look_at(pyswarm: Pyswarm) -> None:
    ran = pyswarm("playground", "heal", "host3")
    assert (ran.code, ran.out) == (ExitCode.UNFINISHED, "")
    for part in ("not ready after 120 s: the agent is starting", "node ls", "host3/agent.log"):
        assert part in ran.err


@pytest.mark.usefixtures("lab")
def test_an_interrupted_heal_leaves_the_host_switched_on(
    pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: Fleet, __: Host, ___: Callable[[str], None]) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(ready, "wait_for_host", interrupted)
    ran = pyswarm("playground", "heal", "host3")
    assert ran.code == ExitCode.UNFINISHED
    assert "no longer waiting" in ran.err
