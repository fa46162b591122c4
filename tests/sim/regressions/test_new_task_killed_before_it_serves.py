"""The new task of a start-first update was killed before it served, and its policy restarts none:
the outdated task runs on beside it, and the update is completed. A rule took that for unfinished.
"""

import signal

from msgspec.structs import replace

from pyswarm_core.objects import Task
from pyswarm_core.specs import (
    ContainerSpec,
    FailureAction,
    ReplicatedMode,
    RestartCondition,
    RestartPolicy,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
    UpdateOrder,
)
from pyswarm_core.states import TaskState, UpdateState
from tests.sim.rollout_states import is_new, serves
from tests.sim.script import CALM, Step, play, ready
from tests.sim.world import World

TEMPLATE = TaskSpec(
    container_spec=ContainerSpec(image="web:1"),
    restart_policy=RestartPolicy(condition=RestartCondition.NONE),
)
SPEC = ServiceSpec(
    name="web",
    task_template=TEMPLATE,
    mode=ReplicatedMode(replicas=1),
    update_config=UpdateConfig(
        order=UpdateOrder.START_FIRST, failure_action=FailureAction.CONTINUE
    ),
)
NEXT = replace(TEMPLATE, container_spec=ContainerSpec(image="web:2"))


def _serves(world: World) -> bool:
    return any(map(serves, world.view.tasks.values()))


def _update(world: World) -> None:
    (web,) = world.view.services.values()
    world.users.update(web, replace(SPEC, task_template=NEXT), "image", leader=True)


def _new(world: World) -> Task | None:
    (web,) = world.view.services.values()
    found = [task for task in world.view.tasks.values() if is_new(web, task)]
    return found[-1] if web.spec_version > 1 and found else None


def _begins(world: World) -> bool:
    """Whether the new task's process runs, and its leader does not know yet."""
    task = _new(world)
    records = [host.adopted.records for host in world.hosts if host.adopted]
    found = [one[task.id] for one in records if task is not None and task.id in one]
    return any(record.process_runs for record in found)


def _kill(world: World) -> None:
    task = _new(world)
    assert task is not None
    assert task.state < TaskState.RUNNING
    world.users.askers.signal(task, signal.SIGKILL)


def _is_completed(world: World) -> bool:
    (web,) = world.view.services.values()
    status = web.update_status
    return status is not None and status.state is UpdateState.COMPLETED


def test_the_outdated_task_runs_on() -> None:
    states: list[tuple[bool, TaskState]] = []

    def look(world: World) -> None:
        (web,) = world.view.services.values()
        tasks = world.view.tasks.values()
        states.extend((is_new(web, task), task.state) for task in tasks)

    steps = [
        Step(ready, lambda world: world.users.create_as(SPEC)),
        Step(_serves, _update),
        Step(_begins, _kill),
        Step(_is_completed, look),
    ]
    result = play(steps, CALM.but(hosts=1))
    assert sorted(states) == [(False, TaskState.RUNNING), (True, TaskState.FAILED)]
    assert result.violations == []
