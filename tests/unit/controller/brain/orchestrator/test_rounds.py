"""However many slots a service has, a decision does a bounded amount of work, and all get done."""

from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from controller.brain.demands import demand_of
from controller.brain.orchestrator import enforce, replicated_service
from controller.brain.orchestrator.plan import AFTER_ALL, Plan
from pyswarm_core.clock import MINUTE, SECOND, Instant
from pyswarm_core.decision import Cursor, Writes
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.indexes.tasks import is_desired
from pyswarm_core.kinds import NODE
from pyswarm_core.limits import (
    DECISION_COST,
    FAILURES_PENALISED,
    PENDING_SHOWN,
    PLACING_COST,
    SLOTS_SCANNED_PER_COST,
    WRITE_COST,
)
from pyswarm_core.objects import Service, TaskDetail
from pyswarm_core.specs import ReplicatedMode
from pyswarm_core.states import Availability, NodeState, TaskState, is_terminal
from tests.fixtures import build
from tests.fixtures.brain_world import changed
from tests.fixtures.build import nodes
from tests.fixtures.turns import Leader

WEB = ServiceId("web")
HUGE = 5_000
"""Replicas: looking at all of them in one decision is more than its bound."""
ONE_SLOT = 8 * WRITE_COST + 1 + PLACING_COST
"""What the slot that fills a decision may cost beyond the bound."""


FEW = 500
"""Tasks on unfit nodes that a decision looks for."""


@pytest.fixture
def _few_evictions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enforce, "EVICTIONS", FEW)


def _world(replicas: int | None = HUGE, hosts: int = 10) -> Leader:
    world = Leader(build.state(nodes=nodes(hosts), services=[_service(replicas)], history=1))
    world.agenda.add_services(world.state.services)
    world.turns()
    return world


def _service(replicas: int | None) -> Service:
    return build.service("web", replicas=replicas, spec=build.template(max_attempts=0))


def _report(world: Leader, state: TaskState, *, desired: bool = True) -> None:
    for task in list(world.state.tasks.values()):
        if task.node_id and is_desired(task) is desired and not is_terminal(task.state):
            world.report(task.node_id, task, state)


def _pass(world: Leader, time: int) -> None:
    world.now = Instant(world.now + time)
    world.turns()


def _change(world: Leader, **fields: object) -> None:
    service = replace(world.state.services[WEB], **fields)
    world.state.apply(Writes(objects=(service,)))
    world.turns()


def _scaled(world: Leader, replicas: int) -> None:
    spec = world.state.services[WEB].spec
    mode = ReplicatedMode(replicas=replicas)
    _change(world, spec=replace(spec, mode=mode))


def _slots(world: Leader) -> int:
    return len({task.slot for task in world.state.tasks.values() if is_desired(task)})


def test_no_decision_about_a_huge_service_costs_more_than_its_bound() -> None:
    world = _world()
    assert _slots(world) == HUGE
    _report(world, TaskState.RUNNING)
    world.turns()
    _report(world, TaskState.FAILED)
    world.turns()
    assert _slots(world) == HUGE, "each is replaced"
    _pass(world, 6 * SECOND)
    _report(world, TaskState.RUNNING)
    world.turns()
    _scaled(world, HUGE // 2)
    assert _slots(world) == HUGE // 2
    _report(world, TaskState.SHUTDOWN, desired=False)
    world.turns()
    _change(world, removing=True)
    assert _slots(world) == 0
    _report(world, TaskState.SHUTDOWN, desired=False)
    world.turns()
    assert not world.state.tasks
    assert not world.state.services
    assert max(work.cost for work in world.work) <= 1_200 + ONE_SLOT


def test_a_round_looks_at_every_slot_once() -> None:
    world = _world()
    _report(world, TaskState.RUNNING)
    _report(world, TaskState.FAILED)
    before = len(world.work)
    world.turns()
    assert len(world.work) > before + 2, "it takes several decisions"
    assert sum(work.slots for work in world.work[before:]) == HUGE


def test_what_changes_during_a_round_is_looked_at_in_the_next() -> None:
    world = _world()
    _report(world, TaskState.RUNNING)
    _report(world, TaskState.FAILED)
    dirty = world.agenda.take(world.state)
    world.agenda.follow_up(dirty, world.decide(dirty))
    world.agenda.add_services(world.state.services)
    resumed = world.agenda.take(world.state)
    assert resumed.resumed[WEB].slot > 1
    assert list(world.agenda.services) == ["web"], "and another round follows"


def test_an_update_of_a_huge_service_advances_one_slot_at_a_time() -> None:
    world = _world()
    _report(world, TaskState.RUNNING)
    _pass(world, MINUTE)
    spec = build.service("web", replicas=HUGE, spec=build.template("new")).spec
    _change(world, spec=spec, spec_version=2, template_version=2)
    stopped = [t for t in world.state.tasks.values() if t.desired_state is TaskState.SHUTDOWN]
    assert [task.slot for task in stopped] == [1]
    world.report("n1", stopped[0], TaskState.SHUTDOWN)
    world.turns()
    stopped = [t for t in world.state.tasks.values() if t.desired_state is TaskState.SHUTDOWN]
    assert len(stopped) == 1, "the new task has yet to prove itself"
    (new,) = [task for task in world.state.tasks.values() if task.spec_version == 2]
    world.report(new.node_id, new, TaskState.RUNNING)
    world.turns()
    _pass(world, 5 * SECOND)
    stopped = [t for t in world.state.tasks.values() if t.desired_state is TaskState.SHUTDOWN]
    assert [task.slot for task in stopped] == [1, 2]


@pytest.mark.parametrize("blocked", [True, False])
def test_an_update_heeds_what_every_part_of_a_round_saw(*, blocked: bool) -> None:
    """Slot 1 has the new template and does not run yet: the part that ends the round does not look
    at it."""
    new = build.task("web.1", node="n1", version=2, state=TaskState.READY, desired=TaskState.READY)
    if not blocked:
        done = TaskDetail(ran=60 * SECOND)
        new = build.task("web.1", node="n1", version=2, state=TaskState.COMPLETE, detail=done)
    others = [build.task(f"web.{n}", node="n2", version=1) for n in range(2, 90)]
    restless = [
        replace(task, desired_state=TaskState.READY, state=TaskState.READY) for task in others[:80]
    ]
    spec = build.template("new", condition="none")
    service = build.service("web", replicas=89, spec=spec, version=2, template_version=2)
    service = build.updating(service, build.service("web").spec, slots=89)
    world = Leader(
        build.state(
            nodes=nodes(2), services=[service], tasks=[new, *restless, *others[80:]], history=1
        )
    )
    world.cost = PLACING_COST
    world.agenda.add_services(world.state.services)
    world.turns()
    assert len(world.work) > 1, "the round takes several decisions"
    stopped = [t.slot for t in world.desired("web") if t.desired_state is TaskState.SHUTDOWN]
    outdated = [t for t in world.desired("web") if t.spec_version == 1]
    assert not stopped
    assert len(outdated) == (88 if blocked else 87)


def test_a_glance_at_a_huge_service_counts() -> None:
    world = _world()
    _report(world, TaskState.RUNNING)
    world.turns()
    before = len(world.work)
    _scaled(world, HUGE - 1)
    assert world.work[before].cost >= HUGE // SLOTS_SCANNED_PER_COST


def test_what_is_given_up_is_chosen_once_for_several_decisions() -> None:
    world = _world(HUGE + 5_100)
    _report(world, TaskState.RUNNING)
    world.turns()
    before = len(world.work)
    chosen: list[int] = []
    choose = replicated_service._surplus

    def choosing(*args: Any) -> list[int]:
        found = choose(*args)
        chosen.append(len(found))
        return found

    with patch.object(replicated_service, "_surplus", choosing):
        _scaled(world, HUGE)
    assert _slots(world) == HUGE
    assert chosen == [5_000, 100]
    assert len(world.work) > before + 4


def test_what_was_chosen_to_be_given_up_is_given_up_only_as_far_as_it_still_is_too_much() -> None:
    world = _world(HUGE)
    dirty = build.dirty("web")
    _report(world, TaskState.RUNNING)
    spec = world.state.services[WEB].spec
    mode = ReplicatedMode(replicas=HUGE - 3)
    world.state.apply(
        Writes(objects=(replace(world.state.services[WEB], spec=replace(spec, mode=mode)),))
    )
    dirty.resumed[WEB] = Cursor(AFTER_ALL, surplus=(HUGE + 7, 1, 2, 3, 4, 5))
    written = world.decide(dirty).writes.tasks
    assert [(t.slot, t.desired_state) for t in written] == [
        (slot, TaskState.REMOVE) for slot in (1, 2, 3)
    ]


def test_a_decision_looks_for_a_bounded_number_of_tasks_on_unfit_nodes() -> None:
    tasks = [build.task(f"web.{slot}", node="n1") for slot in range(1, 10_003)]
    host = build.node("n1", availability=Availability.DRAIN)
    state = build.state(nodes=[host], services=[_service(10_002)], tasks=tasks)
    slots, is_all = enforce.evictions(state, [])
    assert (len(slots[WEB]), is_all) == (10_000, False)


@pytest.mark.usefixtures("_few_evictions")
def test_tasks_are_moved_off_drained_nodes_in_parts() -> None:
    world = _world(replicas=4 * FEW, hosts=4)
    _report(world, TaskState.RUNNING)
    world.turns()
    before = len(world.work)
    for host in list(world.state.nodes.values())[:3]:
        world.state.apply(Writes(objects=(changed(host, availability=Availability.DRAIN),)))
    world.turns()
    assert {task.node_id for task in world.desired("web")} == {"n4"}
    assert max(work.slots for work in world.work[before:]) <= FEW + 1_000
    assert max(work.cost for work in world.work[before:]) <= DECISION_COST + ONE_SLOT


def test_tasks_of_a_quarantined_service_on_a_drained_node_hold_up_nobody() -> None:
    world = _world(replicas=2 * FEW, hosts=2)
    host = next(iter(world.state.nodes.values()))
    world.state.apply(Writes(objects=(changed(host, availability=Availability.DRAIN),)))
    dirty = build.dirty(nodes=[host.id])
    dirty.quarantined = ("web",)
    decision = world.decide(dirty)
    assert not decision.writes
    assert not decision.unfinished


@pytest.mark.usefixtures("_few_evictions")
def test_constraints_that_change_move_tasks_in_parts() -> None:
    world = _world(replicas=4 * FEW, hosts=2)
    _report(world, TaskState.RUNNING)
    world.turns()
    host = next(iter(world.state.nodes.values()))
    world.state.apply(Writes(objects=(changed(host, labels={"disk": "ssd"}),)))
    world.turns()
    before = len(world.work)
    spec = build.service(
        "web", replicas=4 * FEW, spec=build.template(constraints=["node.labels.disk==ssd"])
    ).spec
    _change(world, spec=spec)
    assert {task.node_id for task in world.desired("web")} == {host.id}
    assert max(work.cost for work in world.work[before:]) <= DECISION_COST + ONE_SLOT


def test_few_tasks_of_a_service_that_is_decided_in_parts_wait() -> None:
    world = _world(replicas=HUGE, hosts=2)
    _report(world, TaskState.RUNNING)
    world.turns()
    for host in list(world.state.nodes.values()):
        world.put_node(changed(host, state=NodeState.DOWN))
    world.turns()
    waiting = [task for task in world.desired("web") if task.state is TaskState.PENDING]
    assert len(waiting) == PENDING_SHOWN
    for host in list(world.state.nodes.values()):
        world.put_node(changed(host, state=NodeState.READY))
    world.turns()
    assert len([t for t in world.desired("web") if t.state is TaskState.ASSIGNED]) == HUGE


def test_history_of_a_bounded_number_of_slots_is_searched_for_failures() -> None:
    failed = [
        task
        for slot in range(1, 2_000 + 2 * FAILURES_PENALISED)
        for task in (
            build.task(
                f"web.{slot}",
                task_id=f"old{slot}",
                node="n1" if slot <= FAILURES_PENALISED else "n2",
                state=TaskState.FAILED,
                desired=TaskState.SHUTDOWN,
            ),
            build.task(f"web.{slot}", node="n3", restarts=1),
        )
    ]
    state = build.state(nodes=nodes(3), services=[_service(HUGE)], tasks=failed)
    (web,) = state.services.values()
    demand = demand_of(state, Plan(web), web.spec, build.NOW)
    assert demand.failing is not None
    rows = state.node_table.rows
    assert [demand.failing[rows[NodeId(n)]] for n in ("n1", "n2")] == [0, 1]


def test_a_global_service_on_very_many_nodes_is_made_in_parts() -> None:
    world = _world(None, hosts=2_000)
    assert _slots(world) == 2_000
    writes = [work.cost for work in world.work]
    assert len(writes) >= 2_000 // 300
    assert max(writes) <= DECISION_COST + 256 * WRITE_COST


def test_a_round_in_parts_gives_every_node_the_slot_that_it_lacks() -> None:
    world = _world(None, hosts=2_000)
    first, last = (world.state.tasks_of_service(WEB).slots[number][0] for number in (1, 2_000))
    world.state.apply(Writes(removed_tasks=[first.id, last.id]))
    _report(world, TaskState.FAILED)
    world.work.clear()
    world.turns()
    assert len(world.work) > 2
    assert _slots(world) == 2_000


def test_global_services_that_no_node_can_take_are_bounded() -> None:
    spec = build.template(memory=1 << 50)
    huge = [build.service(f"huge{n}", replicas=None, spec=spec) for n in range(4)]
    world = Leader(build.state(nodes=nodes(2_000), services=huge))
    world.agenda.add_services(world.state.services)
    world.turns()
    waiting = [task for task in world.state.tasks.values() if task.state is TaskState.PENDING]
    assert len(waiting) == 4 * PENDING_SHOWN
    assert max(work.placings for work in world.work) < 4


def test_slots_with_too_many_tasks_on_their_way_out_do_not_keep_a_decision_busy() -> None:
    """They cannot be filled anew, and they are no surplus."""
    tasks = [
        replace(
            build.task(f"web.{slot}", task_id=f"t{slot}.{n}", node="n1"),
            desired_state=TaskState.REMOVE,
        )
        for slot in range(1, 701)
        for n in range(8)
    ]
    world = Leader(build.state(nodes=nodes(1), services=[_service(0)], tasks=tasks))
    world.agenda.add_services(world.state.services)
    world.turns()
    assert len(world.work) < 10
    _scaled(world, 3)
    assert not world.desired("web"), "their slots get no other tasks"
    world.report("n1", tasks[0], TaskState.SHUTDOWN)
    world.turns()
    assert not world.desired("web"), "as many slots as are wanted are crowded still"


def test_a_small_service_does_not_wait_for_the_round_of_a_huge_one() -> None:
    world = _world()
    _report(world, TaskState.RUNNING)
    _report(world, TaskState.FAILED)
    dirty = world.agenda.take(world.state)
    world.agenda.follow_up(dirty, decision := world.decide(dirty))
    world.state.apply(decision.writes)
    world.state.apply(Writes(objects=(build.service("z"),)))
    for _ in range(2):
        dirty = world.agenda.take(world.state)
        world.agenda.follow_up(dirty, decision := world.decide(dirty))
        world.followed.decided(decision.writes)
    assert world.desired("z")


def test_a_node_that_changed_does_not_wait_for_a_huge_service() -> None:
    world = _world()
    _report(world, TaskState.RUNNING)
    _report(world, TaskState.FAILED)
    world.put_node(build.node("n11", number=11))
    assert world.agenda.take(world.state).nodes == {"n11"}


def test_replicas_that_are_desired_again_take_the_lowest_slots() -> None:
    world = _world(2_000)
    _report(world, TaskState.RUNNING)
    world.turns()
    _scaled(world, 0)
    _scaled(world, 2_000)
    assert sorted(task.slot for task in world.desired("web")) == list(range(1, 2_001))


def test_a_task_on_a_node_that_is_gone_is_replaced_by_a_new_leader() -> None:
    """The leader that removed the node may have ended before it decided."""
    lost = build.task("web.1", node="gone")
    state = build.state(nodes=nodes(1), services=[_service(1)], tasks=[lost])
    world = Leader(state)
    decision = world.decide()
    assert [task.node_id for task in decision.writes.tasks] == ["n1"]
    assert decision.writes.removed_tasks == [lost.id]
    world.state.apply(decision.writes)
    assert not world.state.lost_nodes


def test_ends_on_nodes_that_are_gone_are_not_looked_at_again() -> None:
    ended = build.task("web.1", node="n1", state=TaskState.COMPLETE, desired=TaskState.SHUTDOWN)
    state = build.state(nodes=nodes(1), services=[_service(1)], tasks=[ended])
    state.apply(Writes(removed=(NODE.object_name(NodeId("n1")),)))
    assert not state.lost_nodes


def test_a_constraint_that_no_node_meets_is_looked_at_by_the_services_own_slots() -> None:
    tasks = [build.task(f"other.{slot}", node="n1") for slot in range(1, 400)]
    tasks += [build.task(f"web.{slot}", node="n1") for slot in range(1, 6)]
    spec = build.template(constraints=["node.labels.a==b"])
    service = build.service("web", replicas=5, spec=spec)
    state = build.state(nodes=nodes(1), services=[service], tasks=tasks)
    assert sorted(enforce.misplaced(state, service, 9)[0]) == [1, 2, 3, 4, 5]
    assert enforce.misplaced(state, service, 2) == ([1, 2], False)
