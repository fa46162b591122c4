"""Lists, lookups and reasons are made in slices: what one slice looks at is counted here."""

from collections.abc import Iterator, Sequence
from functools import partial
from unittest.mock import patch

import pytest

from controller.api.queries import lists as queries
from controller.api.queries import lookup, views
from controller.api.queries import why as why_module
from controller.api.queries.lists import TaskQuery
from controller.api.queries.why import explain, look_at_why, why
from controller.brain.orchestrator.quarantine import Quarantine
from controller.brain.scheduler.explain import exclusions
from controller.brain.slices import Slices, finish
from controller.grpc.parts import parts
from pyswarm_core.api.v1 import control_pb2
from pyswarm_core.decision import Writes
from pyswarm_core.errors import InvalidArgument, NotFound
from pyswarm_core.ids import ServiceId
from pyswarm_core.kinds import NODE, VOLUME
from pyswarm_core.limits import LIST_MAX, REFS_MAX, SLICE_BYTES, SLICE_OBJECT_BYTES, SLICE_TASKS
from pyswarm_core.objects import Task
from pyswarm_core.state import State
from pyswarm_core.states import Availability, TaskState
from pyswarm_core.views import NodeView
from tests.fixtures import build
from tests.fixtures.build import NOW

MANY = 3 * SLICE_TASKS


def steps(work: Slices[object]) -> int:
    """How many slices the work takes."""
    return 1 + sum(1 for _ in work)


def crowded(count: int = MANY, **changes: object) -> State:
    """One service with so many tasks."""
    state = build.state(nodes=build.nodes(3), services=[build.service("web", replicas=count)])
    tasks = [build.task(f"web.{slot}", **changes) for slot in range(1, count + 1)]  # type: ignore[arg-type]
    state.apply(Writes(tasks=tasks))
    return state


def test_a_list_of_tasks_takes_slices_and_keeps_its_order() -> None:
    state = crowded(node="n1")
    found = finish(queries.find_tasks(state, TaskQuery()))
    assert found == [f"web.{slot}" for slot in range(1, MANY + 1)]
    # To look, to sort and to merge.
    assert steps(queries.find_tasks(state, TaskQuery())) >= 3 * MANY // SLICE_TASKS


def test_a_list_of_objects_takes_slices_and_keeps_its_order() -> None:
    state = build.state()
    names = [f"data{number:05}" for number in reversed(range(MANY))]
    state.apply(Writes(objects=tuple(map(build.volume, names))))
    assert finish(queries.find_all(state, VOLUME, ())) == sorted(names)
    # To look, to sort and to merge.
    assert steps(queries.find_all(state, VOLUME, ())) >= 3 * MANY // SLICE_TASKS


def test_many_filters_make_smaller_slices() -> None:
    state = crowded(SLICE_TASKS, node="n1")
    filters = tuple(f"name=web.{number}" for number in range(99))
    query = TaskQuery(services=("web",), filters=filters)
    assert steps(queries.find_tasks(state, query)) >= 100


def test_tasks_that_go_between_two_slices_are_not_listed() -> None:
    state = crowded(node="n1")
    work = queries.find_tasks(state, TaskQuery())
    next(work)
    state.apply(Writes(removed_tasks=list(state.tasks)))
    assert finish(work) == []


def test_a_list_that_is_too_long_is_refused_with_what_to_do() -> None:
    state = crowded(4_000)
    with patch.object(queries, "LIST_MAX", 3_999):
        refused = pytest.raises(InvalidArgument, match="name services or nodes, or add a filter")
        with refused:
            finish(queries.find_tasks(state, TaskQuery()))
    assert len(finish(queries.find_tasks(state, TaskQuery()))) == 4_000 < LIST_MAX


def test_too_many_names_are_refused() -> None:
    query = TaskQuery(tasks=("web.1",) * (REFS_MAX + 1))
    with pytest.raises(InvalidArgument, match=f"expected at most {REFS_MAX}"):
        finish(queries.find_tasks(crowded(1), query))


def test_the_beginning_of_an_id_is_compared_in_slices() -> None:
    with patch.object(lookup, "IDS_COMPARED_AT_ONCE", SLICE_TASKS):
        assert steps(_failing(lookup.find_task(crowded(), "n0b0d1"))) > MANY // SLICE_TASKS - 1


def _failing(work: Slices[object]) -> Slices[None]:
    try:
        yield from work
    except NotFound:
        return


def test_a_part_of_a_list_is_bounded_in_bytes() -> None:
    state = build.state(nodes=build.nodes(500))
    found = finish(queries.find_all(state, NODE, []))
    replies = [*_node_parts(state, found)]
    shown = [view.node.id for reply in replies for view in reply.nodes]
    assert shown == found
    largest = max(view.ByteSize() for reply in replies for view in reply.nodes)
    assert len(replies) > 1
    for reply in replies:
        weight = reply.ByteSize() + SLICE_OBJECT_BYTES * (len(reply.nodes) - 1)
        assert weight <= SLICE_BYTES + largest + SLICE_OBJECT_BYTES


def test_what_is_gone_is_left_out_and_costs_as_well() -> None:
    state = build.state(nodes=build.nodes(1))
    gone = ["gone"] * (4 * SLICE_BYTES // SLICE_OBJECT_BYTES)
    replies = [*_node_parts(state, [*gone, "n1"])]
    assert len(replies) >= 4
    assert [view.node.id for reply in replies for view in reply.nodes] == ["n1"]


def _node_parts(state: State, found: Sequence[str]) -> Iterator[control_pb2.ListNodesReply]:
    def view(node_id: str) -> NodeView | None:
        return views.listed_node(state, node_id, controllers=())  # type: ignore[arg-type]

    return parts(found, view, control_pb2.ListNodesReply, "nodes")


def test_a_listed_service_comes_without_its_old_specs() -> None:
    old = build.service("web")
    state = build.state(services=[old])
    listed = views.listed_service(state, ServiceId("web"), quarantined=())
    assert listed is not None
    assert not listed.service.previous_specs


def test_why_judges_the_nodes_once_for_all_tasks_that_wait() -> None:
    state = crowded(4_000, state=TaskState.PENDING)
    with patch.object(why_module, "exclusions", wraps=exclusions) as judged:
        lines = why(state, "web", NOW)
    assert judged.call_count == 1
    assert lines[-1] == "4000 tasks of web do not run in all"


@pytest.mark.parametrize("state", [TaskState.FAILED, TaskState.PENDING, TaskState.PREPARING])
def test_why_takes_slices_and_asks_a_bounded_number_of_tasks(state: TaskState) -> None:
    asked: list[Task] = []
    real = why_module._why_task

    def counted(case: why_module._Case, task: Task) -> list[str]:
        asked.append(task)
        return real(case, task)

    fleet = crowded(MANY, node="n1" if state > TaskState.PENDING else "", state=state)
    with patch.object(why_module, "_why_task", counted):
        work = look_at_why(fleet, "web", NOW)
        most = before = 0
        for _ in work:
            most, before = max(most, len(asked) - before), len(asked)
    assert most <= why_module._JUDGED_AT_ONCE
    assert len(asked) == why_module._TASKS_JUDGED


def test_why_by_a_beginning_takes_the_slices_of_the_lookup_and_of_the_judgement() -> None:
    fleet = crowded(node="n1", state=TaskState.RUNNING)
    with patch.object(lookup, "IDS_COMPARED_AT_ONCE", SLICE_TASKS):
        for ref in ("web", *list(fleet.tasks)[:1]):
            looked_up = steps(lookup.find_service_or_task(fleet, ref))
            judged = steps(look_at_why(fleet, ref, NOW))
            assert steps(explain(fleet, ref, NOW, Quarantine())) == looked_up + judged


def test_a_global_service_weighs_as_much_as_the_nodes_that_are_looked_at_for_it() -> None:
    names = [f"agent{number}" for number in range(12)]
    services = [build.service(name, replicas=None) for name in names]
    state = build.state(nodes=build.nodes(8_000), services=services)
    view = partial(views.listed_service, state, quarantined=())
    reply = control_pb2.ListServicesReply
    replies = [*parts(state.services, view, reply, "services", partial(views.work, state))]
    assert len(replies) == 3, "four of them fill a slice"
    assert [view.service.spec.name for part in replies for view in part.services] == names


def test_desired_tasks_of_a_global_service_include_those_on_paused_nodes() -> None:
    paused = build.node("n3", availability=Availability.PAUSE)
    state = build.state(
        nodes=[*build.nodes(2), paused],
        services=[build.service("agent", replicas=None)],
        tasks=[build.task("agent.1", node="n1"), build.task("agent.3", node="n3")],
    )
    (agent,) = state.services.values()
    assert views.desired_tasks(state, agent) == 3
    assert len(views.desired_slots(state, agent) or ()) == 3
