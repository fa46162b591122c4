"""The slots of a service by version say at any time what a look at all of them says."""

from random import Random

import pytest
from msgspec.structs import replace

from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import ServiceId
from pyswarm_core.indexes.rollout import Ranking, is_failure, is_first, serves
from pyswarm_core.indexes.tasks import ServiceTasks, is_desired
from pyswarm_core.objects import NO_DETAIL, Service, Task, TaskDetail, UpdateStatus, VersionRange
from pyswarm_core.state import State
from pyswarm_core.states import TaskState, UpdateState, is_terminal
from tests.fixtures import build

WEB = ServiceId("web")
SLOTS = 8
STATES = [*[TaskState.RUNNING] * 6, TaskState.PREPARING, TaskState.PENDING, TaskState.FAILED]
DESIRED = [*[TaskState.RUNNING] * 6, TaskState.READY, TaskState.SHUTDOWN, TaskState.REMOVE]


def service_of(rand: Random) -> Service:
    """Of some template version, perhaps updating, perhaps with the template of an older version."""
    version = rand.randint(1, 3)
    found = build.service("web", version=version, template_version=version)
    same = (VersionRange(1, 1),) if version == 3 and rand.random() < 0.5 else ()
    state = rand.choice([None, UpdateState.COMPLETED, UpdateState.UPDATING])
    started = Instant(rand.randint(1, 20) * SECOND)
    status = UpdateStatus(state=state, started_at=started) if state else None
    return replace(found, same_template=same, update_status=status)


def world(service: Service) -> State:
    """Without tasks."""
    return build.state(services=[service], nodes=build.nodes(3))


def some_task(rand: Random, number: int) -> Task:
    """In one of few slots, in any state, of any version."""
    state = rand.choice(STATES)
    task = build.task(
        f"web.{rand.randint(1, SLOTS)}",
        node=f"n{rand.randint(1, 3)}",
        state=state,
        desired=rand.choice(DESIRED),
        task_id=f"{number:025d}",
        version=rand.randint(1, 3),
        created=rand.randint(1, 20) * SECOND,
        at=rand.randint(1, 20) * SECOND,
        restarts=rand.choice([0, 0, 1]),
        detail=rand.choice([build.SERVES, NO_DETAIL, TaskDetail(told_to_end=True)]),
    )
    return replace(task, failed_update=rand.random() < 0.2)


def looked_up(tasks: ServiceTasks, without: dict[int, None]) -> tuple[object, ...]:
    """What the index answers."""
    rollout = tasks.rollout
    assert rollout is not None
    return (
        rollout.next_outdated(without, 3),
        rollout.in_flight(without),
        rollout.failed(without)[0],
        rollout.running_since(without, Instant(10 * SECOND), SLOTS),
        rollout.running_since(without, Instant(10 * SECOND), 2),
        rollout.last_running(without),
    )


def held(task: Task) -> bool:
    """Whether it ended by itself and its slot waits for the update."""
    told = task.detail.told_to_end
    return (
        task.state is TaskState.FAILED and task.desired_state is not TaskState.REMOVE and not told
    )


def shown(service: Service, tasks: tuple[Task, ...]) -> Task:
    """The newest task, or what an outdated one that ended was beside."""
    *earlier, newest = tasks
    left = [task for task in earlier if is_desired(task)]
    ended = is_terminal(newest.state) and not service.is_current(newest.spec_version)
    return left[-1] if ended and left else newest


def looked_for(
    tasks: ServiceTasks, service: Service, without: dict[int, None]
) -> tuple[object, ...]:
    """The same, by a look at all slots."""
    newest = {
        slot: shown(service, held) for slot, held in tasks.slots.items() if slot not in without
    }
    outdated = [
        (int(task.state is TaskState.RUNNING), slot)
        for slot, task in newest.items()
        if not service.is_current(task.spec_version) and (is_desired(task) or held(task))
    ]
    current = {slot: task for slot, task in newest.items() if service.is_current(task.spec_version)}
    failed = sorted(slot for slot, task in current.items() if is_failure(service, task))
    first = [task for task in current.values() if is_first(service, task) and is_desired(task)]
    began = sorted((task.status_at for task in first if serves(task)), reverse=True)
    stopping = [
        task
        for task in newest.values()
        if not service.is_current(task.spec_version)
        and task.desired_state is TaskState.SHUTDOWN
        and not is_terminal(task.state)
    ]
    return (
        sorted(outdated)[:3],
        len(first) - len(began) + len(stopping),
        len(failed),
        [at for at in began if at > 10 * SECOND],
        [at for at in began if at > 10 * SECOND][:2],
        began[0] if began else Instant(0),
    )


def agrees(state: State, service: Service, rand: Random) -> None:
    """The index is there if an update goes on, and answers right whoever is left out."""
    tasks = state.tasks_of_service(WEB)
    if not tasks.slots and tasks.service is None:
        return
    outdated = any(is_desired(task) and not service.is_current(task.spec_version) for task in tasks)
    assert (tasks.rollout is not None) == (outdated or service.is_updating)
    if tasks.rollout is not None:
        for count in (0, 2, SLOTS):
            without = dict.fromkeys(rand.sample(range(1, SLOTS + 1), count))
            assert looked_up(tasks, without) == looked_for(tasks, service, without)
            count, slot = tasks.rollout.failed(without)
            assert (slot is not None) == (count > 0)
            assert slot is None or is_failure(service, shown(service, tasks.slots[slot]))
            assert slot not in without


@pytest.mark.parametrize("seed", range(100))
def test_the_index_follows_every_change(seed: int) -> None:
    rand = Random(seed)
    service = service_of(rand)
    state = world(service)
    for step in range(30):
        known = list(state.tasks.values())
        kind = rand.choice(["some", "some", "one", "change", "change", "remove", "update"])
        if kind == "some":  # those of slots that are empty are put in bulk
            state.apply(Writes(tasks=[some_task(rand, 10 * step + n) for n in range(4)]))
        elif kind == "one":
            state.apply(Writes(tasks=[some_task(rand, 10 * step)]))
        elif kind == "change" and known:
            task = rand.choice(known)
            at, desired = rand.randint(1, 20) * SECOND, rand.choice(DESIRED)
            changed = replace(
                task, state=rand.choice(STATES), desired_state=desired, status_at=Instant(at)
            )
            state.apply(Writes(tasks=[changed]))
        elif kind == "remove" and known:
            state.apply(Writes(removed_tasks=[rand.choice(known).id]))
        elif kind == "update":
            service = service_of(rand)
            state.apply(Writes(objects=(service,)))
        agrees(state, service, rand)


@pytest.mark.parametrize("seed", range(20))
def test_a_new_leader_has_the_same_index(seed: int) -> None:
    rand = Random(seed)
    tasks = [some_task(rand, number) for number in range(20)]
    service = service_of(rand)
    state = world(service)
    for part in (tasks[:7], tasks[7:]):
        state.apply(Writes(tasks=part))
        agrees(state, service, rand)


def test_a_ranking_forgets_what_no_longer_holds() -> None:
    ranking = Ranking()
    for number in range(1000, 0, -1):
        ranking.put(1, number)
        assert ranking.lowest({}) == [(number, 1)]
    ranking.put(2, 5)
    ranking.put(2, 7)
    ranking.put(2, 5)
    assert ranking._heap is None or len(ranking._heap) < 100
    assert ranking.lowest({1: None}) == [(5, 2)]
    assert ranking.lowest({2: None}) == [(1, 1)]
    assert ranking.lowest({1: None, 2: None}) == []
    assert ranking.lowest({}, 3) == [(1, 1), (5, 2)]
    assert ranking.lowest({}, 3, below=5) == [(1, 1)]
    ranking.drop(1)
    assert ranking.lowest({}) == [(5, 2)]
