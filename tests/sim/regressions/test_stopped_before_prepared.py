"""A task that was stopped before its preparation took a first step stayed preparing for ever.

Its assignment and its removal reach the agent at the same instant: both waited on the wire.
"""

from pyswarm_core.clock import SECOND
from pyswarm_core.specs import ReplicatedMode
from pyswarm_core.states import TaskState
from tests.sim.script import CALM, Step, create, play, ready, remove
from tests.sim.world import World

ONE = ReplicatedMode(replicas=1)


def _assigned(world: World) -> bool:
    return any(task.state is TaskState.ASSIGNED for task in world.view.tasks.values())


def _clog(world: World) -> None:
    world.net.clog("c1", "h1", 2 * SECOND)


def test_a_task_that_is_stopped_before_it_is_prepared_ends() -> None:
    steps = [
        Step(ready, _clog),
        Step(lambda world: True, create("web", ONE)),
        Step(_assigned, remove("web")),
    ]
    result = play(steps, CALM.but(hosts=1))
    assert result.violations == []
