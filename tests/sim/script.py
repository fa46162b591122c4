"""A run told step by step: a condition on the world, and what is done when it first holds.

Conditions are looked at after every event, so a step happens at the same turn of the story however
many awaits the product needs to get there.
"""

from collections.abc import Callable, Sequence

import msgspec

from pyswarm_core.clock import SECOND
from pyswarm_core.specs import (
    ContainerSpec,
    Reservations,
    Resources,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
)
from pyswarm_core.states import NodeState
from tests.sim.controllers import Machine
from tests.sim.options import Options
from tests.sim.result import Result
from tests.sim.world import World, simulate

CALM = Options(request_every_s=0.0, seconds=60)
"""No users and no faults but the script's."""


class Step(msgspec.Struct, frozen=True):
    """When this holds, do that."""

    when: Callable[[World], bool]
    do: Callable[[World], None]


def play(steps: Sequence[Step], options: Options = CALM, *, trace: bool = False) -> Result:
    """Run the script to its end. A script that does not get there has lost its meaning."""
    left = list(steps)

    def prepare(world: World) -> None:
        def look() -> None:
            while left and left[0].when(world):
                left.pop(0).do(world)

        world.scheduler.after_event = look

    result = simulate(1, options=options, trace=trace, prepare=prepare)
    assert not left, f"the script ended {len(left)} steps before its end"
    return result


# Conditions


def ready(world: World) -> bool:
    """Somebody leads and every host is a node that is ready."""
    nodes = world.view.nodes.values()
    states = [node.status.state for node in nodes]
    return states == [NodeState.READY] * len(world.hosts) and _leads(world)


def _leads(world: World) -> bool:
    return any(machine.loop is not None for machine in world.machines)


def after(seconds: float) -> Callable[[World], bool]:
    """So long after the step before was done."""
    due: list[int] = []

    def when(world: World) -> bool:
        if not due:
            due.append(world.scheduler.now + int(seconds * SECOND))
            world.scheduler.at(due[0], lambda: None)
        return world.scheduler.now >= due[0]

    return when


# Acts


def leader(world: World) -> Machine:
    """Who leads; of two that believe it, the first."""
    return next(machine for machine in world.machines if machine.loop is not None)


def create(name: str, mode: ServiceMode, *, nano_cpus: int = 0) -> Callable[[World], None]:
    """Somebody creates a service of `web`."""
    template = TaskSpec(
        container_spec=ContainerSpec(image="web:1"),
        resources=Resources(reservations=Reservations(nano_cpus=nano_cpus)),
    )
    spec = ServiceSpec(name=name, task_template=template, mode=mode)
    return lambda world: world.users.create_as(spec)


def remove(name: str) -> Callable[[World], None]:
    """Somebody removes it."""

    def do(world: World) -> None:
        services = world.view.services.values()
        world.users.remove_named(next(s for s in services if s.spec.name == name))

    return do
