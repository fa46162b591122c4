"""A start-first update to a version whose task completes too early shut the old task down, and
returned to it in the same decision. The leader sees the new task only when it has completed.
"""

from msgspec.structs import replace

from pyswarm_core.clock import SECOND
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
from pyswarm_core.states import UpdateState
from tests.sim.rollout_states import serves
from tests.sim.script import Step, leader, play, ready
from tests.sim.world import World

CONFIG = UpdateConfig(
    order=UpdateOrder.START_FIRST,
    failure_action=FailureAction.ROLLBACK,
    monitor=12 * SECOND,  # longer than a job takes
)
SPEC = ServiceSpec(
    name="web",
    task_template=TaskSpec(
        container_spec=ContainerSpec(image="web:1"),
        restart_policy=RestartPolicy(condition=RestartCondition.ON_FAILURE),
    ),
    mode=ReplicatedMode(replicas=2),
    update_config=CONFIG,
    rollback_config=replace(CONFIG, failure_action=FailureAction.PAUSE),
)


def _serving(world: World) -> list[str]:
    return sorted(task.id for task in world.view.tasks.values() if serves(task))


def _all_serve(world: World) -> bool:
    return len(_serving(world)) == 2


def _job_runs(world: World) -> bool:
    tasks = world.view.tasks
    return any(tasks[i].spec_version == 2 for host in world.hosts for i in host.running())


def _stall(world: World) -> None:
    process = leader(world).process
    assert process is not None
    process.stall(10 * SECOND)  # a job takes at most eight


def _is_rolled_back(world: World) -> bool:
    (web,) = world.view.services.values()
    status = web.update_status
    return status is not None and status.state is UpdateState.ROLLBACK_COMPLETED


def test_an_update_to_a_job_that_is_rolled_back_ends_no_task_that_serves() -> None:
    seen: list[list[str]] = []

    def update(world: World) -> None:
        seen.append(_serving(world))
        (web,) = world.view.services.values()
        container = ContainerSpec(image="job:2")
        template = replace(SPEC.task_template, container_spec=container)
        world.users.update(web, replace(SPEC, task_template=template), "job", leader=True)

    steps = [
        Step(ready, lambda world: world.users.create_as(SPEC)),
        Step(_all_serve, update),
        Step(_job_runs, _stall),
        Step(_is_rolled_back, lambda world: seen.append(_serving(world))),
    ]
    result = play(steps)
    assert result.violations == []
    assert seen[0] == seen[1]
