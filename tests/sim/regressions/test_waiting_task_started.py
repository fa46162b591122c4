"""A global service's task that waited for room on its node was sent to its agent, which ran it."""

from pyswarm_core.specs import GlobalMode, ReplicatedMode
from pyswarm_core.states import TaskState
from tests.sim.script import CALM, Step, create, play, ready
from tests.sim.world import World

ONE = ReplicatedMode(replicas=1)
EVERYWHERE = GlobalMode()


def _fill(world: World) -> None:
    everything = world.hosts[0].description.resources.nano_cpus
    create("full", ONE, nano_cpus=everything)(world)


def _runs(world: World) -> bool:
    return any(task.state is TaskState.RUNNING for task in world.view.tasks.values())


def _waits(world: World) -> bool:
    return any(t.node_id and t.state is TaskState.PENDING for t in world.view.tasks.values())


def test_a_task_that_waits_for_room_is_not_started() -> None:
    steps = [
        Step(ready, _fill),
        Step(_runs, create("agent", EVERYWHERE, nano_cpus=10_000_000)),
        Step(_waits, lambda world: None),
    ]
    result = play(steps, CALM.but(hosts=1))
    assert result.violations == []
