"""Assignments come in parts of bounded size, between which the state may change."""

import pytest
from msgspec.structs import replace

from controller.brain.slices import finish
from controller.leader import assignments
from controller.leader.assignments import Source, Templates, full_assignments
from controller.leader.overlays import OverlayMessages
from controller.leader.sessions import Message, NodeSession
from pyswarm_core.api.v1.dispatcher_pb2 import Assignments, Overlay, ServiceEndpoint
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NetworkId, NodeId, TaskId
from pyswarm_core.indexes.columns import unpack_ids
from pyswarm_core.objects import Block
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from tests.fixtures import build
from tests.unit.controller.leader.endpoints.build import known

N1 = NodeId("n1")
NETWORKS = 30
PART = 2_000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assignments, "ASSIGNMENT_BYTES", PART)
    monkeypatch.setattr(assignments, "SLICE_OBJECT_BYTES", 64)


def world() -> State:
    """A node with one task on each of many networks."""
    nodes = build.nodes(9)
    networks = [
        replace(
            build.network(f"net{number}", f"10.{number}.0.0/16", 5000 + number),
            blocks=tuple(
                Block(cidr=f"10.{number}.{node.number}.0/26", node_number=node.number)
                for node in nodes
            ),
        )
        for number in range(NETWORKS)
    ]
    services = [
        build.service(f"s{number}", spec=build.template(networks=[f"net{number}"]))
        for number in range(NETWORKS)
    ]
    tasks = [
        build.task(f"s{number}.1", node="n1", state=TaskState.RUNNING, task_id=identified(number))
        for number in range(NETWORKS)
    ]
    return build.state(nodes=nodes, networks=networks, services=services, tasks=tasks)


def identified(number: int) -> TaskId:
    return TaskId(f"{number:025}")


def source_of(state: State) -> Source:
    endpoints = known(state)
    return Source(state, endpoints, OverlayMessages(state, endpoints), Templates())


def parts_of(state: State) -> list[Assignments]:
    return [part for part in full_assignments(source_of(state), N1, {}, 7) if part is not None]


def named(parts: list[Assignments]) -> list[list[str]]:
    return [
        [task_id for part in parts for task_id in unpack_ids(part.ids)],
        [Overlay.FromString(one).network_id for part in parts for one in part.overlays],
        [ServiceEndpoint.FromString(one).service_id for part in parts for one in part.endpoints],
    ]


EVERYTHING = [
    [identified(number) for number in range(NETWORKS)],
    [f"net{number}" for number in range(NETWORKS)],
    [f"s{number}" for number in range(NETWORKS)],
]


def test_a_full_set_comes_in_parts_of_bounded_size() -> None:
    parts = parts_of(world())
    assert max(part.ByteSize() for part in parts) < 2 * PART
    assert [part.more for part in parts] == [*[True] * (len(parts) - 1), False]
    assert {(part.full, part.revision) for part in parts} == {(True, 7)}
    assert named(parts) == EVERYTHING


def test_many_tasks_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assignments, "ASSIGNMENT_TASK_BYTES", PART // 4)
    assert max(len(unpack_ids(part.ids)) for part in parts_of(world())) <= 4


def test_no_part_means_more_than_the_last_one_said() -> None:
    """What changes after the first part is told again with the next message."""
    state = world()
    source = source_of(state)
    session = NodeSession(N1)
    telling = session.take(source, 7)
    told = [_assignments(next(telling))]
    network = state.networks[NetworkId("net0")]
    moved = replace(network, blocks=network.blocks[:5])
    stopped = replace(state.tasks[identified(0)], desired_state=TaskState.SHUTDOWN)
    failed = replace(state.tasks[identified(1)], state=TaskState.FAILED)
    state.apply(Writes(objects=(moved,), tasks=[stopped, failed]))
    source.overlays.changed([network.id])
    finish(source.endpoints.refresh(["s0"]))  # type: ignore[list-item]
    session.task_changed(stopped)
    session.overlays_changed()
    told += [_assignments(one) for one in telling if one is not None]
    assert told[-1].revision == 7
    assert named(told)[0] == EVERYTHING[0]
    after = [_assignments(one) for one in session.take(source, 8) if one is not None]
    assert {part.full for part in after} == {False}
    assert named(after)[0] == [identified(0)]
    assert [i for part in after for i in part.removed_overlays] == ["net1"]
    now = {Overlay.FromString(one).network_id: one for part in told for one in part.overlays}
    now |= {Overlay.FromString(one).network_id: one for part in after for one in part.overlays}
    assert len(Overlay.FromString(now["net0"]).peers) == 4
    assert list(session.take(source, 8)) == []


def test_a_digest_is_compared_only_if_nothing_changed_between_parts() -> None:
    source = source_of(world())
    for changes in (False, True):
        session = NodeSession(N1)
        telling = session.take(source, 7)
        next(telling)
        if changes:
            source.endpoints.touch()
        assert len(list(telling)) > 1
        assert session.verify(7, 1) is not changes


def _assignments(message: Message | None) -> Assignments:
    assert message is not None
    return message.assignments
