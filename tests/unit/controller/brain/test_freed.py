"""With start-first, an outdated task ends for a new one only if that lacks what the old one has."""

from msgspec.structs import replace

from pyswarm_core.decision import Writes
from pyswarm_core.objects import Service
from pyswarm_core.specs import TaskSpec, UpdateConfig, UpdateOrder
from pyswarm_core.states import TaskState
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld
from tests.fixtures.build import network, nodes, service

START_FIRST = UpdateConfig(order=UpdateOrder.START_FIRST)
RUNNING, PENDING = TaskState.RUNNING, TaskState.PENDING


def _world(*services: Service) -> BrainWorld:
    """Two nodes, and a network with five addresses for each; all tasks run."""
    tiny = network("net", "10.128.0.0/28")
    world = BrainWorld(build.state(nodes=nodes(2), services=services, networks=[tiny]))
    world.converge()
    return world


def _update(world: BrainWorld, old: Service, spec: TaskSpec) -> None:
    new = replace(old, spec=replace(old.spec, task_template=spec))
    new = replace(new, spec_version=2, template_version=2)
    new = build.updating(new, old.spec, START_FIRST, slots=2)
    status = replace(new.update_status, started_at=world.now)  # type: ignore[type-var]
    world.state.apply(Writes(objects=(replace(new, update_status=status),)))
    world.converge()


def test_the_address_of_the_outdated_task_is_freed_for_the_new_one() -> None:
    web = service("web", replicas=10, spec=build.template(networks=["net"]))
    world = _world(web)
    _update(world, web, build.template("new", networks=["net"]))
    tasks = world.desired("web")
    assert {(task.spec_version, task.state) for task in tasks} == {(2, RUNNING)}
    assert len(tasks) == 10


def test_a_task_that_has_no_address_of_the_network_runs_on_when_it_is_full() -> None:
    full = service("full", replicas=10, spec=build.template(networks=["net"]))
    web = service("web", replicas=1)
    world = _world(full, web)
    _update(world, web, build.template("new", networks=["net"]))
    found = [(task.spec_version, task.state) for task in world.desired("web")]
    assert sorted(found) == [(1, RUNNING), (2, PENDING)]
