"""Each task of a plan is placed by its own binding and its own template."""

import pytest
from msgspec.structs import replace

from controller.brain.orchestrator.plan import Plan, Vacancy
from controller.brain.placing import Placing
from pyswarm_core.limits import PENDING_SHOWN
from pyswarm_core.objects import PreviousSpec, Service, Task
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from tests.fixtures import build
from tests.fixtures.build import GIB, NOW, Numbered

N2 = build.node("n2").id


def _updated(replicas: int | None = 9, *, old: int = 1, new: int = 4) -> Service:
    """A service whose version 1 reserves `old` and whose version 2 reserves `new` GiB."""
    before = build.service("web", replicas=replicas, spec=build.template(memory=old * GIB))
    after = build.service(
        "web",
        replicas=replicas,
        spec=build.template(memory=new * GIB),
        version=2,
        template_version=2,
    )
    return replace(after, previous_specs=(PreviousSpec(version=1, spec=before.spec),))


def _state(service: Service, *tasks: Task, memory: int = 10) -> State:
    return build.state(services=[service], nodes=build.nodes(3, memory=memory * GIB), tasks=tasks)


def _placed(state: State, plan: Plan) -> list[tuple[int, int, str, TaskState]]:
    placing = Placing(state, NOW, Numbered())
    placing.place(plan)
    placing.explain()
    assert not placing.failed
    made = plan.changed.values()
    return sorted((t.slot, t.spec_version, t.node_id, t.state) for t in made)


def _plan(service: Service, *vacancies: Vacancy) -> Plan:
    plan = Plan(service)
    plan.vacancies = {vacancy.slot: vacancy for vacancy in vacancies}
    return plan


def test_some_are_bound_to_a_node_and_others_are_not() -> None:
    service = _updated()
    plan = _plan(
        service, Vacancy(1, 2), Vacancy(2, 2, node_id=N2), Vacancy(3, 2), Vacancy(4, 2, node_id=N2)
    )
    nodes = {slot: node for slot, _, node, _ in _placed(_state(service), plan)}
    assert nodes[2] == nodes[4] == N2
    assert nodes[1] != nodes[3]


def test_each_takes_what_its_own_version_reserves() -> None:
    service = _updated(old=1, new=9)
    plan = _plan(service, *(Vacancy(slot, 1) for slot in (1, 2, 3)), Vacancy(4, 2))
    placed = _placed(_state(service, memory=10), plan)
    assert [(slot, version) for slot, version, _, _ in placed] == [(1, 1), (2, 1), (3, 1), (4, 2)]
    assert all(state is TaskState.ASSIGNED for *_, state in placed)
    state = _state(service, *plan.changed.values(), memory=10)
    table = state.node_table
    free = [int(table.free_memory[row]) for row in table.rows.values()]
    assert sorted(free) == [0, 9 * GIB, 9 * GIB]


def test_a_version_that_fits_is_placed_though_another_is_not() -> None:
    service = _updated(old=1, new=20)
    plan = _plan(service, Vacancy(1, 2), Vacancy(2, 1))
    placed = _placed(_state(service), plan)
    assert [(slot, state) for slot, _, _, state in placed] == [
        (1, TaskState.PENDING),
        (2, TaskState.ASSIGNED),
    ]


def test_few_that_wait_are_stored_whatever_they_are_made_from() -> None:
    service = _updated(old=20, new=30)
    waiting = [
        build.task(f"web.{slot}", state=TaskState.PENDING, version=1) for slot in range(1, 15)
    ]
    plan = _plan(service, *(Vacancy(slot, 2) for slot in range(20, 40)))
    plan.pending = {task.id: task for task in waiting}
    placed = _placed(_state(service, *waiting), plan)
    assert len(placed) == PENDING_SHOWN
    assert [version for _, version, _, _ in placed].count(1) == 14


def test_a_version_that_is_no_longer_kept_is_an_error() -> None:
    service = replace(_updated(), previous_specs=())
    with pytest.raises(LookupError, match="spec version 1 of the service is no longer kept"):
        _placed(_state(service), _plan(service, Vacancy(1, 1)))
