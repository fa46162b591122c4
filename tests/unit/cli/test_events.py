"""`pyswarm events` against a scripted controller."""

import pytest

from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.errors import InvalidArgument, Unavailable
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.scripted import Script


def test_events_are_one_line_each(script: Script, pyswarm: Pyswarm) -> None:
    event = pb.Event(
        at=1_700_000_000_000_000_000, type="node", action="down", id="n1", name="host1",
        reason="no heartbeat", count=1,
    )  # fmt: skip
    script.on("Events", [pb.EventsReply(events=[event])])
    told = pyswarm("events", "--until", "2023-11-14T23:00:00Z")
    assert told.out == (
        "2023-11-14T22:13:20.000000000Z node down n1 (name=host1, reason=no heartbeat)\n"
    )
    assert not script.requests("Events")[0].follow
    assert pyswarm("events", "--format", "{{.Name}}").out == "host1\n"


def test_events_go_on_under_the_next_leader_where_they_ended(
    script: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replied(revision: int, *names: str) -> pb.EventsReply:
        return pb.EventsReply(
            events=[pb.Event(type="node", action="update", name=n, revision=revision, count=1)
                    for n in names]
        )  # fmt: skip

    gone = Unavailable("another term of leadership began: try again")
    monkeypatch.setattr("cli.streams.resuming.PAUSE_S", 0.0)
    script.on(
        "Events",
        [replied(7, "a"), replied(8, "b"), gone],
        gone,
        [replied(8, "b", "c"), replied(9, "d"), replied(9, "e")],
    )
    assert pyswarm("events", "--format", "{{.Name}}").out == "a\nb\nc\nd\ne\n"
    assert [one.since_revision for one in script.requests("Events")] == [0, 8, 8]


def test_events_of_a_revision_that_is_gone_are_an_error(script: Script, pyswarm: Pyswarm) -> None:
    script.on("Events", InvalidArgument("since-revision: events of revision 3 are not kept"))
    told = pyswarm("events", "--since-revision", "3")
    assert (told.code, told.err) == (
        2,
        "Error: since-revision: events of revision 3 are not kept\n",
    )
    assert (
        "cannot be used together" in pyswarm("events", "--since-revision", "3", "--since", "1m").err
    )


def test_an_event_of_a_request_names_its_caller(script: Script, pyswarm: Pyswarm) -> None:
    event = pb.Event(type="service", action="update", id="s1", name="web", count=1, caller="alice")
    script.on("Events", [pb.EventsReply(events=[event])])
    told = pyswarm("events", "--until", "2023-11-14T23:00:00Z").out
    assert told == "1970-01-01T00:00:00.000000000Z service update s1 (name=web, caller=alice)\n"
    assert pyswarm("events", "--format", "{{.Caller}}").out == "alice\n"
