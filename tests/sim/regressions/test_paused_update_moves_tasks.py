"""A task that a paused update made from the earlier template was placed by the constraints of that
template, moved by the current ones, and placed again, a hundred times a second.
"""

from msgspec.structs import replace

from pyswarm_core.specs import (
    ContainerSpec,
    Placement,
    ReplicatedMode,
    ServiceSpec,
    TaskSpec,
)
from pyswarm_core.states import NodeState, TaskState, UpdateState
from tests.sim.rollout_states import serves
from tests.sim.script import CALM, Step, after, play, ready
from tests.sim.world import World

SPEC = ServiceSpec(
    name="web",
    task_template=TaskSpec(container_spec=ContainerSpec(image="web:1")),
    mode=ReplicatedMode(replicas=2),
)
BROKEN = TaskSpec(
    container_spec=ContainerSpec(image="badstart:2"),
    placement=Placement(constraints=("engine.labels.rack==1",)),
)


def _all_serve(world: World) -> bool:
    return sum(map(serves, world.view.tasks.values())) == 2


def _update(world: World) -> None:
    (web,) = world.view.services.values()
    world.users.update(web, replace(SPEC, task_template=BROKEN), "broken", leader=True)


def _is_paused(world: World) -> bool:
    (web,) = world.view.services.values()
    status = web.update_status
    return status is not None and status.state is UpdateState.PAUSED


def _lose_rack(world: World) -> None:
    for host in world.hosts:
        if host.description.engine_labels["rack"] == "1":
            host.lose_power()


def _is_lost(world: World) -> bool:
    nodes = world.view.nodes.values()
    return any(node.status.state is NodeState.DOWN for node in nodes)


def test_what_no_node_may_take_by_the_current_constraints_waits() -> None:
    made: list[TaskState] = []

    def look(world: World) -> None:
        tasks = world.view.tasks.values()
        made.extend(task.state for task in tasks if task.desired_state <= TaskState.RUNNING)

    steps = [
        Step(ready, lambda world: world.users.create_as(SPEC)),
        Step(_all_serve, _update),
        Step(_is_paused, _lose_rack),
        Step(_is_lost, lambda world: None),
        Step(after(3), look),
    ]
    result = play(steps, CALM.but(hosts=2))
    assert result.violations == []
    assert made
    assert set(made) == {TaskState.PENDING}
