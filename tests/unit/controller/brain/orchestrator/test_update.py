"""Updates: one slot at a time, derived from stored tasks, stopped by a template that fails."""

from heapq import heappop
from typing import NoReturn

import pytest
from msgspec.structs import replace

from controller.api.queries.why import why
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import EventKind, Writes
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.indexes.tasks import is_desired
from pyswarm_core.objects import Task, TaskDetail, UpdateStatus
from pyswarm_core.specs import FailureAction, UpdateConfig, UpdateOrder
from pyswarm_core.states import Availability, NodeState, TaskState, UpdateState
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld, changed
from tests.fixtures.build import NOW, dirty, nodes, service, task


def _world(*tasks: Task, replicas: int = 3, **config: object) -> BrainWorld:
    old = service("web", replicas=replicas)
    new = service(
        "web", replicas=replicas, spec=build.template("new"), version=2, template_version=2
    )
    new = build.updating(new, old.spec, UpdateConfig(**config), slots=replicas)  # type: ignore[arg-type]
    return BrainWorld(build.state(nodes=nodes(3), services=[new], tasks=tasks))


def _running(slot: int, version: int, **fields: int) -> Task:
    return task(f"web.{slot}", node=f"n{slot}", version=version, **fields)  # type: ignore[arg-type]


def _stopped(world: BrainWorld) -> list[int]:
    written = world.decide(dirty("web")).writes.tasks
    return [t.slot for t in written if t.desired_state is TaskState.SHUTDOWN]


def test_first_slot_is_stopped_alone() -> None:
    assert _stopped(_world(*(_running(slot, 1) for slot in (1, 2, 3)))) == [1]


class _Unread(dict[int, tuple[Task, ...]]):
    """Slots that may be looked up one by one, and not gone through."""

    def _all(self) -> NoReturn:
        raise AssertionError("all slots were looked at")

    __iter__ = keys = values = items = _all


@pytest.mark.parametrize("updated", [0, 900])
def test_a_step_looks_at_the_slots_in_flight_and_not_at_all(updated: int) -> None:
    slots = range(1, 1001)
    tasks = [task(f"web.{n}", node="n1", version=1 + (n <= updated)) for n in slots]
    world = _world(*tasks, replicas=1000)
    world.now = Instant(NOW + 5 * SECOND)
    group = world.state.tasks_of_service(ServiceId("web"))
    group.slots = _Unread(group.slots)
    assert _stopped(world) == [updated + 1]
    assert world.decide(dirty("web")).work.cost < 10


@pytest.mark.parametrize("parallelism", [0, 3])
def test_a_step_takes_no_more_slots_from_the_ranking_than_fill_the_room(
    monkeypatch: pytest.MonkeyPatch, parallelism: int
) -> None:
    """A thousand slots are within the delay."""
    tasks = [task(f"web.{n}", node="n1", version=1 + (n <= 990)) for n in range(1, 1001)]
    world = _world(*tasks, replicas=1000, delay=60 * SECOND, parallelism=parallelism)
    world.now = Instant(NOW + SECOND)
    world.decide(dirty("web"))
    popped: list[int] = []

    def counted(heap: list[int]) -> int:
        popped.append(heap[0])
        return heappop(heap)

    monkeypatch.setattr("pyswarm_core.indexes.rollout.heapq.heappop", counted)
    stopped = [t for t in world.decide(dirty("web")).writes.tasks if not is_desired(t)]
    assert len(stopped) == (0 if parallelism else 10)
    assert len(popped) < 20


def test_an_update_with_a_delay_longer_than_the_monitor_is_completed_after_the_delay() -> None:
    world = _world(*(_running(n, 2) for n in (1, 2, 3)), delay=60 * SECOND)
    assert world.decide(dirty("web")).wakes == {"web": NOW + 60 * SECOND}
    world.now = Instant(NOW + 60 * SECOND)
    world.settle(dirty("web"))
    assert _status(world).state is UpdateState.COMPLETED


def test_new_task_waits_until_the_old_one_has_ended() -> None:
    stopping = replace(_running(1, 1), desired_state=TaskState.SHUTDOWN)
    world = _world(stopping, _running(2, 1), _running(3, 1))
    assert not world.decide(dirty("web")).writes
    world.report("n1", stopping, TaskState.SHUTDOWN)
    (new,) = world.decide(dirty("web")).writes.tasks
    assert (new.slot, new.spec_version, new.desired_state) == (1, 2, TaskState.RUNNING)


def test_next_slot_follows_as_soon_as_the_new_task_serves() -> None:
    new = replace(_running(1, 2), detail=TaskDetail(serving=False))
    world = _world(new, _running(2, 1), _running(3, 1))
    assert not world.decide(dirty("web")).writes
    world.report("n1", new, TaskState.RUNNING)
    assert _stopped(world) == [2]


def test_next_slot_waits_for_the_delay_since_the_new_task_runs() -> None:
    world = _world(_running(1, 2), _running(2, 1), _running(3, 1), delay=7 * SECOND)
    decision = world.decide(dirty("web"))
    assert not decision.writes
    assert decision.wakes == {"web": NOW + 7 * SECOND}
    world.now = Instant(NOW + 7 * SECOND)
    assert _stopped(world) == [2]


@pytest.mark.parametrize(("parallelism", "stopped"), [(0, [1, 2, 3]), (2, [1, 2]), (5, [1, 2, 3])])
def test_as_many_slots_as_the_parallelism_are_in_flight(
    parallelism: int, stopped: list[int]
) -> None:
    world = _world(*(_running(slot, 1) for slot in (1, 2, 3)), parallelism=parallelism)
    assert _stopped(world) == stopped


def test_a_slot_whose_task_is_stopping_is_in_flight() -> None:
    stopping = replace(_running(1, 1), desired_state=TaskState.SHUTDOWN)
    world = _world(stopping, *(_running(slot, 1) for slot in (2, 3)), parallelism=2)
    assert _stopped(world) == [2]


def _status(world: BrainWorld) -> UpdateStatus:
    status = world.state.services[ServiceId("web")].update_status
    assert status is not None
    return status


def test_an_update_is_completed_when_the_last_new_task_has_run_for_the_monitored_time() -> None:
    world = _world(_running(1, 2), _running(2, 2), _running(3, 2, at=NOW + SECOND))
    assert world.decide(dirty("web")).wakes == {"web": NOW + 6 * SECOND}
    world.now = Instant(NOW + 6 * SECOND)
    world.settle(dirty("web"))
    status = _status(world)
    assert (status.state, status.completed_at) == (UpdateState.COMPLETED, world.now)
    assert status.message == "update completed"
    assert world.state.tasks_of_service(ServiceId("web")).rollout is None


def _play(world: BrainWorld, fails: TaskState, seconds: int = 60) -> None:
    """New tasks fail in that state."""
    for _ in range(seconds):
        world.settle()
        for found in list(world.state.tasks.values()):
            if found.spec_version == 2 and found.state is fails:
                world.report(found.node_id, found, TaskState.FAILED)
            else:
                world.advance(found)
        world.now = Instant(world.now + SECOND)


def _old(world: BrainWorld) -> list[tuple[int, TaskState]]:
    return [(t.slot, t.state) for t in world.desired("web") if t.spec_version == 1]


@pytest.mark.parametrize("history", [0, 1, 5])
def test_a_template_that_never_serves_takes_down_one_slot_and_pauses(history: int) -> None:
    world = _world(*(_running(slot, 1) for slot in (1, 2, 3)))
    _limit_history(world, history)
    _play(world, TaskState.STARTING)
    assert _old(world) == [(2, TaskState.RUNNING), (3, TaskState.RUNNING)]
    status = _status(world)
    assert (status.state, status.failures, status.slots) == (UpdateState.PAUSED, 1, 3)
    assert status.message.startswith(
        "update paused due to failure or early termination of task 000"
    )


def _limit_history(world: BrainWorld, kept: int) -> None:
    cluster = world.state.cluster
    spec = replace(cluster.spec, task_history_limit=kept)
    world.state.apply(Writes(cluster=replace(cluster, spec=spec)))


@pytest.mark.parametrize("history", [0, 5])
@pytest.mark.parametrize(("ratio", "updated"), [(0.3, 1), (0.4, 2), (0.7, 3), (1.0, 3)])
def test_failures_up_to_the_ratio_are_tolerated(ratio: float, updated: int, history: int) -> None:
    world = _world(*(_running(slot, 1) for slot in (1, 2, 3)), max_failure_ratio=ratio)
    _limit_history(world, history)
    _play(world, TaskState.STARTING)
    assert len(_old(world)) == 3 - updated
    assert _status(world).state is (UpdateState.PAUSED if ratio < 1 else UpdateState.COMPLETED)


@pytest.mark.parametrize("replicas", [1, None])
def test_a_slot_that_is_filled_again_is_in_flight(replicas: int | None) -> None:
    waits = replace(task("web.1", version=2, state=TaskState.PENDING), node_id=NodeId(""))
    ended = replace(waits, desired_state=TaskState.SHUTDOWN)  # restarted by a user
    old = service("web", replicas=replicas)
    new = service(
        "web", replicas=replicas, spec=build.template("new"), version=2, template_version=2
    )
    new = build.updating(new, old.spec, UpdateConfig(), slots=1)
    world = BrainWorld(build.state(nodes=nodes(1), services=[new], tasks=[ended]))
    world.settle(dirty("web"))
    assert [(t.slot, t.spec_version) for t in world.desired("web")] == [(1, 2)]
    assert _status(world).state is UpdateState.UPDATING


def test_an_update_that_continues_counts_each_failed_slot_once() -> None:
    action = FailureAction.CONTINUE
    world = _world(*(_running(slot, 1) for slot in (1, 2, 3)), failure_action=action)
    _play(world, TaskState.STARTING)
    status = _status(world)
    assert (status.state, status.failures) == (UpdateState.COMPLETED, 3)


def test_an_end_after_the_monitored_time_is_no_failure() -> None:
    ended = TaskDetail(ran=5 * SECOND)
    failed = replace(_running(1, 2), state=TaskState.FAILED, detail=ended)
    world = _world(failed, _running(2, 1), _running(3, 1))
    assert _stopped(world) == [1, 2]
    world = _world(
        replace(failed, detail=TaskDetail(ran=5 * SECOND - 1)), _running(2, 1), _running(3, 1)
    )
    world.settle(dirty("web"))
    assert _status(world).state is UpdateState.PAUSED


def test_while_it_is_paused_no_slot_changes_its_template() -> None:
    world = _world(*(_running(slot, 1) for slot in (1, 2, 3)))
    _play(world, TaskState.STARTING)
    (held,) = [t for t in world.desired("web") if t.slot == 2]
    world.report(held.node_id, held, TaskState.FAILED)
    world.settle(dirty("web"))
    world.put_node(build.node("n3", availability=Availability.DRAIN))
    world.settle(dirty(nodes=["n3"]))
    assert [(t.slot, t.spec_version) for t in world.desired("web")][-2:] == [(2, 1), (3, 1)]
    assert [t.restarts for t in world.desired("web")][-2:] == [1, 0]


def test_an_update_stored_by_an_older_version_is_begun_anew() -> None:
    world = _world(*(_running(slot, 1) for slot in (1, 2, 3)))
    (web,) = world.state.services.values()
    world.state.apply(Writes(objects=(replace(web, update_status=None),)))
    world.settle(dirty("web"))
    status = _status(world)
    assert (status.state, status.slots, status.to_version) == (UpdateState.UPDATING, 3, 2)


def test_an_update_stored_by_an_older_version_returns_to_the_newest_other_template() -> None:
    world = _world(
        *(_running(slot, 1) for slot in (1, 2, 3)), failure_action=FailureAction.ROLLBACK
    )
    (web,) = world.state.services.values()
    (first,) = web.previous_specs
    relabelled = replace(first, version=2, spec=replace(web.spec, labels={"a": "b"}))
    web = replace(web, spec_version=3, update_status=None, previous_specs=(relabelled, first))
    world.state.apply(Writes(objects=(web,)))
    world.settle(dirty("web"))
    assert _status(world).from_version == 1
    for _ in range(30):
        world.settle()
        for found in list(world.state.tasks.values()):
            if found.spec_version == 3 and found.state is TaskState.STARTING:
                world.report(found.node_id, found, TaskState.FAILED)
            else:
                world.advance(found)
        world.now = Instant(world.now + SECOND)
    (web,) = world.state.services.values()
    assert _status(world).state is UpdateState.ROLLBACK_COMPLETED
    assert web.spec.task_template == first.spec.task_template


def test_what_does_not_run_anyway_is_replaced_first() -> None:
    down = replace(_running(3, 1), state=TaskState.PREPARING)
    assert _stopped(_world(_running(1, 1), _running(2, 1), down)) == [3]


def test_update_reaches_every_slot_and_never_stops_two() -> None:
    world = _world(*(_running(slot, 1) for slot in (1, 2, 3)))
    for _ in range(100):
        world.settle()
        tasks = world.state.tasks.values()
        assert sum(is_desired(t) and t.state is TaskState.RUNNING for t in tasks) >= 2
        for found in list(tasks):
            world.advance(found)
        world.now = Instant(world.now + SECOND)
    assert [(t.slot, t.spec_version) for t in world.desired("web")] == [(1, 2), (2, 2), (3, 2)]


def test_slot_whose_outdated_task_is_stopping_is_filled_when_its_node_goes_down() -> None:
    stopping = replace(_running(1, 1), desired_state=TaskState.SHUTDOWN)
    world = _world(stopping, _running(2, 1), _running(3, 1))
    world.put_node(build.node("n1", state=NodeState.DOWN))
    written = world.decide(dirty(nodes=["n1"])).writes.tasks
    assert [(t.slot, t.spec_version) for t in written if is_desired(t)] == [(1, 2)]


def test_what_replaces_an_outdated_task_that_ended_is_told_as_a_replacement() -> None:
    world = _world(_running(1, 1), replicas=1)
    world.report("n1", _running(1, 1), TaskState.FAILED)
    events = world.decide(dirty("web")).events
    assert [event.count for event in events if event.kind == EventKind.TASK_REPLACED] == [1]


@pytest.mark.parametrize("replicas", [3, None], ids=["replicated", "global"])
def test_a_task_that_fails_after_it_was_told_to_end_is_no_failure(replicas: int | None) -> None:
    web = service("web", replicas=replicas, spec=build.template("new"), version=2)
    old = service("web", replicas=replicas)
    web = build.updating(replace(web, template_version=2), old.spec, slots=3)
    tasks = [_running(1, 2, restarts=0), _running(2, 1), _running(3, 1)]
    world = BrainWorld(build.state(nodes=nodes(3), services=[web], tasks=tasks))
    host = world.state.nodes[NodeId("n1")]
    world.put_node(changed(host, state=NodeState.DOWN))
    world.settle()
    world.put_node(changed(host, state=NodeState.READY))
    world.report("n1", world.state.tasks[tasks[0].id], TaskState.FAILED, TaskDetail(ran=SECOND))
    world.settle()
    assert _status(world).state is UpdateState.UPDATING
    first = [task for task in world.desired("web") if task.slot == 1]
    assert [(t.spec_version, t.restarts, t.failed_update) for t in first] == [(2, 0, False)]
    for _ in range(60):
        for found in list(world.state.tasks.values()):
            world.advance(found)
        world.now = Instant(world.now + SECOND)
        world.settle()
    assert _status(world).state is UpdateState.COMPLETED
    assert _status(world).failures == 0


def _ended(count: int, **template: object) -> BrainWorld:
    """So many tasks of the old version have ended by themselves, and are not restarted."""
    world = _world(replicas=count)
    web = world.state.services[ServiceId("web")]
    spec = build.template("new", **template)  # type: ignore[arg-type]
    web = replace(web, spec=replace(web.spec, task_template=spec))
    tasks = [
        task(f"web.{slot}", node="n1", state=TaskState.FAILED, restarts=1)
        for slot in range(1, count + 1)
    ]
    world.state.apply(Writes(objects=(web,), tasks=tasks))
    return world


def _made(world: BrainWorld) -> list[int]:
    return [task.slot for task in world.desired("web") if task.spec_version == 2]


def test_the_delay_lies_between_slots_that_ended_too() -> None:
    world = _ended(3, condition="none")
    web = world.state.services[ServiceId("web")]
    settings = replace(web.spec.update_config, delay=10 * SECOND)
    world.state.apply(
        Writes(objects=(replace(web, spec=replace(web.spec, update_config=settings)),))
    )
    world.settle()
    for _ in range(6):
        for found in list(world.state.tasks.values()):
            world.advance(found)
    world.settle()
    assert _made(world) == [1], "the first runs, and its delay is not over"
    world.now = Instant(world.now + 10 * SECOND)
    world.settle()
    assert _made(world) == [1, 2]


@pytest.mark.parametrize("order", UpdateOrder)
@pytest.mark.parametrize(
    "template", [{"condition": "none"}, {"max_attempts": 1}, {"delay": 30 * SECOND}]
)
def test_slots_that_ended_are_updated_one_at_a_time(
    order: UpdateOrder, template: dict[str, object]
) -> None:
    world = _ended(4, **template)
    web = world.state.services[ServiceId("web")]
    settings = replace(web.spec.update_config, order=order)
    world.state.apply(
        Writes(objects=(replace(web, spec=replace(web.spec, update_config=settings)),))
    )
    for slot in range(1, 5):
        world.settle()
        assert _made(world) == list(range(1, slot + 1))
        left = why(world.state, "web", world.now)[1]
        assert f"{4 - slot} of 4 tasks" in left or slot == 4
        for _ in range(6):
            for found in list(world.state.tasks.values()):
                world.advance(found)
    world.settle()
    assert _status(world).state is UpdateState.UPDATING, "the last is monitored"
    world.now = Instant(world.now + 5 * SECOND)
    world.settle()
    assert _status(world).state is UpdateState.COMPLETED


def test_slots_that_ended_are_left_alone_by_a_paused_update_and_by_one_without_room() -> None:
    world = _ended(3, condition="none")
    web = world.state.services[ServiceId("web")]
    assert web.update_status is not None
    status = replace(web.update_status, state=UpdateState.PAUSED)
    world.state.apply(Writes(objects=(replace(web, update_status=status),)))
    world.settle()
    assert _made(world) == []
    new = task("web.3", task_id="new", node="n3", version=2, state=TaskState.STARTING)
    world.state.apply(Writes(objects=(web,), tasks=[new]))
    world.settle()
    assert _made(world) == [3]


def test_a_step_finds_slots_that_ended_and_that_it_did_not_look_at() -> None:
    world = _ended(300, condition="none")
    world.settle()
    assert _made(world) == [1]
    world.settle(dirty("web"))
    assert _made(world) == [1]
    group = world.state.tasks_of_service(ServiceId("web"))
    assert group.rollout is not None
    assert len(group.rollout.ended) == 299


def test_a_task_that_the_restart_policy_replaces_gets_the_new_template_at_once() -> None:
    failed = task("web.3", node="n3", state=TaskState.FAILED)
    world = _world(replace(_running(1, 2), state=TaskState.STARTING), _running(2, 1), failed)
    world.settle()
    assert _made(world) == [1, 3]
