"""A service that is updated and rolled back, for tests."""

from typing import Any

from msgspec.structs import replace

from controller.api.changes.services import (
    Rollback,
    Update,
    create_service,
    rollback_service,
    update_service,
)
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.objects import Service, UpdateStatus
from pyswarm_core.specs import (
    FailureAction,
    ServiceSpec,
    UpdateConfig,
)
from pyswarm_core.states import TaskState, UpdateState
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld
from tests.fixtures.build import nodes

BACK = UpdateConfig(failure_action=FailureAction.ROLLBACK)


def running_web(
    replicas: int | None = 3, update: UpdateConfig = BACK, **rollback: Any
) -> BrainWorld:
    """Service web runs its first version."""
    world = BrainWorld(build.state(nodes=nodes(3), networks=[build.network("net")]))
    spec = build.configured(
        build.service("web", replicas=replicas), update, UpdateConfig(**rollback)
    ).spec
    writes, _ = create_service(world.state, spec, (), world.now, world.ids)
    world.state.apply(writes)
    world.converge()
    return world


def the_web(world: BrainWorld) -> Service:
    (web,) = world.state.services.values()
    return web


def update_web(world: BrainWorld, image: str = "", **fields: Any) -> None:
    web = the_web(world)
    spec = replace(web.spec, **fields)
    if image:
        spec = replace(spec, task_template=build.template(image))
    update = Update(web.id, web.version, spec)
    world.state.apply(update_service(world.state, update, (), world.now, world.ids)[0])


def play(world: BrainWorld, *bad: int, seconds: int = 60) -> None:
    """Tasks of these spec versions fail while they start."""
    for _ in range(seconds):
        world.settle()
        for found in list(world.state.tasks.values()):
            if found.spec_version in bad and found.state is TaskState.STARTING:
                world.report(found.node_id, found, TaskState.FAILED)
            else:
                world.advance(world.state.tasks[found.id])
        world.now = Instant(world.now + SECOND)


def status_of(world: BrainWorld) -> UpdateStatus:
    status = the_web(world).update_status
    assert status is not None
    return status


def state_of(world: BrainWorld) -> UpdateState:
    return status_of(world).state


def spec_of(world: BrainWorld) -> ServiceSpec:
    return the_web(world).spec


def roll_back(world: BrainWorld, to: int = 0) -> Service:
    rollback = Rollback("web", None, to)
    writes, service = rollback_service(world.state, rollback, (), world.now, world.ids)
    world.state.apply(writes)
    return service
