"""`why` names who made the changes that are causes, where that is stored."""

import pytest
from msgspec.structs import replace

from controller.api.queries.why import why
from pyswarm_core.clock import HOUR, MINUTE, Instant
from pyswarm_core.identity.author import Author
from pyswarm_core.objects import Service, Version
from pyswarm_core.states import Availability, NodeState, TaskState
from tests.fixtures import build
from tests.fixtures.build import NOW, node, service, task

ALICE = Author(name="alice", role="operator")
ROOT = Author(name="root")
THEN = Instant(NOW - 3 * MINUTE)


def made(index: int, **changes: object) -> Service:
    changed = {"updated_by": ALICE, "updated_at": THEN, "version": Version(index=index), **changes}
    return replace(service("web"), **changed)


def test_the_author_of_a_services_version() -> None:
    updated = build.state(services=[made(9, spec_version=7)])
    created = build.state(services=[made(1)])
    removed = build.state(services=[made(9, removing=True)])
    unnamed = build.state(services=[made(9, updated_by=None)])
    text = "service web was updated to version 7 by alice (operator) 3 minutes ago"
    assert why(updated, "web", NOW)[1] == text
    assert (
        why(created, "web", NOW)[1] == "service web was created by alice (operator) 3 minutes ago"
    )
    ref = removed.services[made(9).id].id
    assert why(removed, ref, NOW)[1] == "service web was removed by alice (operator) 3 minutes ago"
    assert not any(" by " in line for line in why(unnamed, "web", NOW))


@pytest.mark.parametrize(
    ("age", "text"),
    [(0, "less than a second ago"), (MINUTE, "about a minute ago"), (HOUR, "about an hour ago")],
)
def test_a_time_within_a_sentence_begins_in_lower_case(age: int, text: str) -> None:
    then = Instant(NOW - age)
    drained = replace(node("n1", availability=Availability.DRAIN), updated_by=ROOT, updated_at=then)
    waits = task("web.1", state=TaskState.PENDING)
    state = build.state(nodes=[drained], services=[made(1, updated_at=then)], tasks=[waits])
    lines = why(state, "web.1", NOW) + why(state, "web", NOW)
    told = [line for line in lines if " by " in line]
    assert len(told) >= 2
    assert all(line.endswith(f" {text}") for line in told)


def test_who_drained_or_paused_the_nodes_that_a_task_cannot_use() -> None:
    nodes = [
        replace(node(name, availability=word), updated_by=by, updated_at=THEN)
        for name, word, by in (
            ("n1", Availability.DRAIN, ROOT),
            ("n2", Availability.PAUSE, ALICE),
            ("n3", Availability.DRAIN, None),
        )
    ]
    state = build.state(
        nodes=nodes, services=[service("web")], tasks=[task("web.1", state=TaskState.PENDING)]
    )
    lines = why(state, "web.1", NOW)
    begin = lines.index("3 of 3 nodes are paused or drained")
    assert lines[begin + 1 : begin + 3] == [
        "node n1 is drained; it was last updated by root 3 minutes ago",
        "node n2 is paused; it was last updated by alice (operator) 3 minutes ago",
    ]
    assert not any("n3" in line for line in lines)


def test_who_drained_the_node_that_a_task_is_moved_off() -> None:
    drained = replace(
        node("n1", state=NodeState.READY, availability=Availability.DRAIN),
        updated_by=ROOT,
        updated_at=THEN,
    )
    moved = task("web.1", node="n1", desired=TaskState.SHUTDOWN)
    lines = why(
        build.state(nodes=[drained], services=[service("web")], tasks=[moved]), "web.1", NOW
    )
    reason = lines.index("it is moved off its node: node n1 is being drained")
    assert lines[reason + 1] == "node n1 is drained; it was last updated by root 3 minutes ago"
