"""The slots of a service by version say at any time what a look at all of them says."""

from random import Random

import pytest
from msgspec.structs import replace

from pyswarm_core.clock import NEVER, SECOND, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import ServiceId
from pyswarm_core.indexes.rollout import Ranking
from pyswarm_core.indexes.tasks import ServiceTasks, is_desired
from pyswarm_core.objects import Task
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from tests.fixtures import build

WEB = ServiceId("web")
SLOTS = 8
STATES = [*[TaskState.RUNNING] * 6, TaskState.PREPARING, TaskState.PENDING, TaskState.FAILED]
DESIRED = [*[TaskState.RUNNING] * 6, TaskState.READY, TaskState.SHUTDOWN]


def world(template_version: int) -> State:
    """Without tasks."""
    service = build.service("web", version=template_version, template_version=template_version)
    return build.state(services=[service], nodes=build.nodes(3))


def some_task(rand: Random, number: int) -> Task:
    """In one of few slots, in any state, of any version."""
    return build.task(
        f"web.{rand.randint(1, SLOTS)}",
        node=f"n{rand.randint(1, 3)}",
        state=rand.choice(STATES),
        desired=rand.choice(DESIRED),
        task_id=f"{number:025d}",
        version=rand.randint(1, 3),
        at=rand.randint(1, 20) * SECOND,
        restarts=rand.choice([0, 0, 1]),
    )


def looked_up(tasks: ServiceTasks, without: dict[int, None]) -> tuple[object, ...]:
    """What the index answers."""
    rollout = tasks.rollout
    assert rollout is not None
    return (
        rollout.next_outdated(without),
        rollout.is_starting(without),
        rollout.running_since(without),
        rollout.restarted_at(without),
    )


def looked_for(tasks: ServiceTasks, version: int, without: dict[int, None]) -> tuple[object, ...]:
    """The same, by a look at all slots."""
    newest = {slot: held[-1] for slot, held in tasks.slots.items() if slot not in without}
    outdated = [
        (int(task.state is TaskState.RUNNING), slot)
        for slot, task in newest.items()
        if task.spec_version < version and is_desired(task)
    ]
    current = [
        task
        for slot, task in newest.items()
        if task.spec_version >= version and slot not in tasks.unsettled
    ]
    running = [task for task in current if task.state is TaskState.RUNNING]
    return (
        min(outdated, default=None),
        len(running) < len(current),
        min((task.status_at for task in running), default=NEVER),
        max((task.status_at for task in running if task.restarts), default=Instant(0)),
    )


def agrees(state: State, version: int, rand: Random) -> None:
    """The index is there if an update is under way, and answers right whoever is left out."""
    tasks = state.tasks_of_service(WEB)
    under_way = any(is_desired(task) and task.spec_version < version for task in tasks)
    assert (tasks.rollout is not None) == under_way
    if under_way:
        for count in (0, 2, SLOTS):
            without = dict.fromkeys(rand.sample(range(1, SLOTS + 1), count))
            assert looked_up(tasks, without) == looked_for(tasks, version, without)


@pytest.mark.parametrize("seed", range(100))
def test_the_index_follows_every_change(seed: int) -> None:
    rand = Random(seed)
    version = rand.randint(1, 3)
    state = world(version)
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
            version = rand.randint(1, 3)
            state.apply(Writes(objects=tuple(world(version).services.values())))
        agrees(state, version, rand)


@pytest.mark.parametrize("seed", range(20))
def test_a_new_leader_has_the_same_index(seed: int) -> None:
    rand = Random(seed)
    tasks = [some_task(rand, number) for number in range(20)]
    state = world(2)
    for part in (tasks[:7], tasks[7:]):
        state.apply(Writes(tasks=part))
        agrees(state, 2, rand)


def test_a_ranking_forgets_what_no_longer_holds() -> None:
    ranking = Ranking()
    for number in range(1000, 0, -1):
        ranking.put(1, number)
        assert ranking.lowest({}) == (number, 1)
    ranking.put(2, 5)
    ranking.put(2, 7)
    ranking.put(2, 5)
    assert ranking._heap is None or len(ranking._heap) < 100
    assert ranking.lowest({1: None}) == (5, 2)
    assert ranking.lowest({2: None}) == (1, 1)
    assert ranking.lowest({1: None, 2: None}) is None
    ranking.drop(1)
    assert ranking.lowest({}) == (5, 2)
