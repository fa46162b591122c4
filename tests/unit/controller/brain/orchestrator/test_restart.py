"""The restart policy: whether, when and how often an ended task is replaced."""

import itertools

import pytest
from msgspec.structs import replace

from controller.brain.orchestrator.restart import delay_before
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import EventKind
from pyswarm_core.objects import Task, TaskDetail
from pyswarm_core.specs import RestartPolicy
from pyswarm_core.state import State
from pyswarm_core.states import NodeState, TaskState
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld
from tests.fixtures.build import NOW, dirty, node, nodes, service, task

FAILED, COMPLETE, REJECTED = TaskState.FAILED, TaskState.COMPLETE, TaskState.REJECTED


def _state(*tasks: Task, **template: object) -> State:
    spec = build.template(**template)  # type: ignore[arg-type]
    return build.state(nodes=nodes(1), services=[service("web", spec=spec)], tasks=tasks)


def _replaced(state: State, now: int = NOW) -> list[Task]:
    world = BrainWorld(state)
    world.now = Instant(now)
    return [t for t in world.decide(dirty("web")).writes.tasks if t.id not in state.tasks]


@pytest.mark.parametrize(
    ("condition", "end", "replaced"),
    [
        ("any", COMPLETE, True),
        ("any", FAILED, True),
        ("on-failure", COMPLETE, False),
        ("on-failure", FAILED, True),
        ("on-failure", REJECTED, True),
        ("none", FAILED, False),
    ],
)
def test_condition_decides_whether_an_end_is_replaced(
    condition: str, end: TaskState, replaced: bool
) -> None:
    state = _state(task("web.1", node="n1", state=end), condition=condition)
    assert bool(_replaced(state)) is replaced


def test_replacement_is_prepared_during_the_delay_and_then_started() -> None:
    world = BrainWorld(_state(task("web.1", node="n1", state=FAILED)))
    decision = world.decide(dirty("web"))
    (new,) = (t for t in decision.writes.tasks if t.id != "web.1")
    assert (new.desired_state, new.state, new.restarts) == (TaskState.READY, TaskState.ASSIGNED, 1)
    world.state.apply(decision.writes)
    waiting = world.decide(dirty("web"))
    assert not waiting.writes
    assert waiting.wakes == {"web": NOW + 5 * SECOND}
    world.now = waiting.wakes[new.service_id]
    (started,) = world.decide(dirty("web")).writes.tasks
    assert (started.id, started.desired_state) == (new.id, TaskState.RUNNING)


def test_a_replacement_that_ends_before_its_delay_is_over_is_not_replaced_sooner() -> None:
    early = task("web.1", node="n1", state=REJECTED, restarts=1, created=NOW - SECOND)
    world = BrainWorld(_state(early))
    waiting = world.decide(dirty("web"))
    assert [t.id for t in waiting.writes.tasks] in ([], [early.id])
    assert waiting.wakes == {"web": NOW + 4 * SECOND}
    world.state.apply(waiting.writes)
    world.now = Instant(NOW + 4 * SECOND)
    (new,) = (t for t in world.decide(dirty("web")).writes.tasks if t.id != early.id)
    assert (new.restarts, new.desired_state) == (2, TaskState.READY)


def test_without_a_delay_the_replacement_runs_at_once() -> None:
    state = _state(task("web.1", node="n1", state=FAILED, created=NOW - SECOND), delay=0)
    assert [t.desired_state for t in _replaced(state)] == [TaskState.RUNNING]


@pytest.mark.parametrize("delay", [0, SECOND // 10])
def test_without_a_delay_a_task_is_replaced_once_per_second(delay: int) -> None:
    world = BrainWorld(_state(task("web.1", node="n1"), delay=delay))
    for _ in range(100):
        for held in world.desired("web"):
            world.report("n1", held, FAILED)
        world.settle(dirty("web"))
        world.now = Instant(world.now + SECOND // 10)
    assert max(held.restarts for held in world.state.tasks.values()) in (9, 10)


def _restarts(delay: int, longest: int) -> list[int]:
    """When a task that fails at once runs again, in milliseconds."""
    spec = build.template(delay=delay)
    policy = replace(spec.restart_policy, max_delay=longest)
    web = service("web", spec=replace(spec, restart_policy=policy))
    world = BrainWorld(build.state(nodes=nodes(1), services=[web], history=20))
    runs: dict[str, int] = {}
    for passed in range(0, 6_000, 50):
        world.now = Instant(NOW + passed * (SECOND // 1_000))
        world.settle(dirty("web"))
        for held in world.desired("web"):
            if held.desired_state is TaskState.RUNNING:
                runs[held.id] = passed
                world.report("n1", held, FAILED)
        world.settle(dirty("web"))
    return list(runs.values())[1:]


def test_a_delay_that_doubles_counts_from_the_first_restart() -> None:
    assert _restarts(SECOND // 10, 60 * SECOND) == [100, 300, 700, 1_500, 3_100]
    for delay, longest in ((SECOND // 10, SECOND // 2), (SECOND // 20, 60 * SECOND)):
        first, second, *_ = _restarts(delay, longest)
        assert first >= 1_000
        assert second >= first + 1_000


def _failing(max_delay: int, seconds: int) -> list[Task]:
    """The tasks of a slot that fail as soon as they are to run."""
    spec = build.template(delay=SECOND)
    policy = replace(spec.restart_policy, max_delay=max_delay)
    web = service("web", spec=replace(spec, restart_policy=policy))
    world = BrainWorld(build.state(nodes=nodes(1), services=[web], history=20))
    for _ in range(seconds * 2):
        world.settle()
        for held in world.desired("web"):
            if held.desired_state is TaskState.RUNNING:
                world.report("n1", held, FAILED)
        world.settle()
        world.now = Instant(world.now + SECOND // 2)
    return list(world.state.tasks.values())


def test_the_delay_doubles_up_to_its_maximum() -> None:
    tasks = _failing(6 * SECOND, 40)
    gaps = [(b.created_at - a.created_at) // SECOND for a, b in itertools.pairwise(tasks)]
    assert gaps[:6] == [0, 1, 2, 4, 6, 6]
    assert [t.consecutive_restarts for t in tasks][:4] == [0, 1, 2, 3]


def test_without_a_maximum_the_delay_stays_the_same() -> None:
    tasks = _failing(0, 10)
    gaps = [(b.created_at - a.created_at) // SECOND for a, b in itertools.pairwise(tasks)]
    assert set(gaps[1:]) == {1}


@pytest.mark.parametrize(("ran", "consecutive"), [(600 * SECOND, 1), (600 * SECOND - 1, 8)])
def test_a_long_run_ends_the_backoff(ran: int, consecutive: int) -> None:
    ended = task("web.1", node="n1", state=FAILED, restarts=9, detail=TaskDetail(ran=ran))
    state = _state(replace(ended, consecutive_restarts=7))
    (new,) = _replaced(state, NOW + 3600 * SECOND)
    assert new.consecutive_restarts == consecutive


def test_the_largest_delay_is_no_overflow() -> None:
    policy = RestartPolicy(delay=5 * SECOND, max_delay=3600 * SECOND)
    assert delay_before(policy, 0xFFFF) == 3600 * SECOND


@pytest.mark.parametrize(("end", "told"), [(FAILED, 1), (COMPLETE, 0)])
def test_a_third_failure_in_a_row_is_a_crash_loop(end: TaskState, told: int) -> None:
    counts = []
    for consecutive in range(6):
        ended = task("web.1", node="n1", state=end, restarts=consecutive)
        world = BrainWorld(_state(replace(ended, consecutive_restarts=consecutive)))
        world.now = Instant(NOW + 3600 * SECOND)
        events = world.decide(dirty("web")).events
        counts.append(sum(event.kind == EventKind.CRASH_LOOP for event in events))
    assert counts == [0, 0, told, 0, 0, 0]


def test_the_event_of_a_crash_loop_names_a_global_services_task_by_its_node() -> None:
    ended = task("edge.1", node="n1", state=FAILED, restarts=2)
    state = build.state(
        nodes=build.nodes(1),
        services=[build.service("edge", replicas=None)],
        tasks=[replace(ended, consecutive_restarts=2)],
    )
    world = BrainWorld(state)
    world.now = Instant(NOW + 3600 * SECOND)
    events = world.decide(dirty("edge")).events
    (reason,) = [event.reason for event in events if event.kind == EventKind.CRASH_LOOP]
    assert reason.startswith("edge.n1 failed 3 times in a row")


def test_attempts_are_counted_over_the_slots_whole_life() -> None:
    once = task("web.1", node="n1", state=FAILED, restarts=1, created=NOW - 6 * SECOND)
    assert _replaced(_state(once, max_attempts=2))
    used = _state(task("web.1", node="n1", state=FAILED, restarts=2), max_attempts=2)
    assert not _replaced(used)


def _crashes(*ends: int) -> list[Task]:
    """Tasks that ended so many seconds from NOW, each restarted when the one before it ended."""
    return [
        task(
            "web.1",
            task_id=f"t{index}",
            node="n1",
            state=FAILED,
            desired=TaskState.SHUTDOWN if index < len(ends) - 1 else TaskState.RUNNING,
            created=NOW + (ends[index - 1] if index else 0) * SECOND,
            at=NOW + end * SECOND,
            restarts=index,
        )
        for index, end in enumerate(ends)
    ]


def test_attempts_within_a_window_are_forgotten_when_it_has_passed() -> None:
    policy = {"max_attempts": 2, "window": 60 * SECOND}
    assert not _replaced(_state(*_crashes(10, 20, 30), **policy), NOW + 30 * SECOND)
    assert _replaced(_state(*_crashes(10, 20, 90), **policy), NOW + 90 * SECOND)


def test_an_exhausted_slot_stays_so_although_its_window_passes() -> None:
    state = _state(*_crashes(10, 20, 30), max_attempts=2, window=60 * SECOND)
    assert not _replaced(state, NOW + 3600 * SECOND)


def test_a_new_template_starts_the_count_anew() -> None:
    ended = task("web.1", node="n1", state=FAILED, restarts=2)
    changed = service("web", spec=build.template(max_attempts=2), version=2, template_version=2)
    state = build.state(nodes=nodes(1), services=[changed], tasks=[ended])
    assert [(t.spec_version, t.restarts) for t in _replaced(state)] == [(2, 0)]


def test_a_completed_slot_counts_as_filled() -> None:
    ended = task("web.1", node="n1", state=COMPLETE, desired=TaskState.SHUTDOWN)
    spec = build.template(condition="on-failure")
    state = build.state(
        nodes=nodes(1), services=[service("web", replicas=2, spec=spec)], tasks=[ended]
    )
    assert [t.slot for t in _replaced(state)] == [2]


def test_restarts_within_a_window_are_counted_without_the_tasks_that_ended() -> None:
    policy = {"max_attempts": 7, "window": 3600 * SECOND, "delay": 0}
    spec = build.template(**policy)  # type: ignore[arg-type]
    state = build.state(nodes=nodes(1), services=[service("web", spec=spec)], history=1)
    world = BrainWorld(state)
    world.settle()
    for _ in range(20):
        world.now = Instant(world.now + SECOND)
        for held in world.desired("web"):
            world.report("n1", held, FAILED)
        world.settle()
        assert len(state.tasks) <= 2
    (ended,) = state.tasks.values()
    assert (ended.state, ended.restarts, len(ended.restarted_at)) == (FAILED, 7, 7)


def test_only_restarts_within_the_window_are_remembered() -> None:
    policy = {"max_attempts": 3, "window": 10 * SECOND, "delay": 0}
    spec = build.template(**policy)  # type: ignore[arg-type]
    state = build.state(nodes=nodes(1), services=[service("web", spec=spec)], history=1)
    world = BrainWorld(state)
    world.settle()
    for _ in range(12):
        world.now = Instant(world.now + 4 * SECOND)
        (held,) = world.desired("web")
        world.report("n1", held, FAILED)
        world.settle()
    (running,) = world.desired("web")
    assert running.restarts == 12
    assert [world.now - at for at in running.restarted_at] == [8 * SECOND, 4 * SECOND, 0]


def test_a_task_that_moves_takes_the_count_with_it() -> None:
    known = (Instant(NOW - SECOND),)
    held = replace(task("web.1", node="n1", restarts=1), restarted_at=known)
    spec = build.template(max_attempts=1, window=60 * SECOND)
    state = build.state(
        nodes=[node("n1", state=NodeState.DOWN), node("n2")],
        services=[service("web", spec=spec)],
        tasks=[held],
    )
    (moved,) = _replaced(state)
    assert (moved.node_id, moved.restarts, moved.restarted_at) == ("n2", 1, known)


def test_a_replacement_is_told() -> None:
    failed = task("web.1", node="n1", state=TaskState.FAILED)
    state = build.state(nodes=nodes(1), services=[service("web")], tasks=[failed])
    events = BrainWorld(state).decide(dirty("web")).events
    assert [event.count for event in events if event.kind == EventKind.TASK_REPLACED] == [1]
