"""With start-first, an outdated task ends for a new one only if that lacks what the old one has."""

import inspect
import re

import pytest
from msgspec.structs import replace

from controller.brain.allocator.blocks import Blocks
from controller.brain.demands import current_demand
from controller.brain.freed import makes_room
from controller.brain.scheduler import explain
from controller.brain.scheduler.filters import Demand, capacity
from controller.brain.scheduler.ledger import Ledger
from pyswarm_core.decision import Writes
from pyswarm_core.docker.generic_resources import reserved
from pyswarm_core.ids import NetworkId
from pyswarm_core.images.disk import ImageDisk
from pyswarm_core.indexes.sources import Presence
from pyswarm_core.limits import LAYERS_PROTOCOL
from pyswarm_core.objects import Node, NodeFault, Service
from pyswarm_core.specs import (
    ContainerMode,
    EndpointSpec,
    PortConfig,
    PublishMode,
    Reservations,
    Resources,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
    UpdateOrder,
)
from pyswarm_core.state import State
from pyswarm_core.states import Availability, NodeState, TaskState
from pyswarm_core.volumes.mounts import Mount, MountType
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld
from tests.fixtures.build import network, node, nodes, service, task

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


def _unable() -> Node:
    made = node("n1")
    fault = NodeFault(network_id=NetworkId(""), reason="no memory cgroup", blocks=True)
    return replace(made, status=replace(made.status, faults=(fault,)))


def _full() -> Node:
    made = node("n1")
    return replace(made, status=replace(made.status, image_disk=ImageDisk(reason="91% full")))


def _needing(generic: str) -> TaskSpec:
    reservations = Reservations(generic_resources=reserved("--generic-resource", (generic,)))
    return replace(build.template(), resources=Resources(reservations=reservations))


PORT_80 = PortConfig(target_port=80, published_port=80, publish_mode=PublishMode.HOST)
FILTERS: dict[str, tuple[TaskSpec, Node]] = {
    "ready": (build.template(), node("n1", state=NodeState.DISCONNECTED)),
    "able": (build.template(), _unable()),
    "availability": (build.template(), node("n1", availability=Availability.PAUSE)),
    "tasks": (build.template(), node("n1", max_tasks=1)),
    "cpu": (build.template(cpus=5), node("n1")),
    "memory": (build.template(memory=9 * build.GIB), node("n1")),
    "generic": (_needing("gpu=2"), node("n1")),
    "constraint": (build.template(constraints=["node.labels.disk==ssd"]), node("n1")),
    "port": (build.template("port"), node("n1")),
    "max": (build.template(max_replicas=1), node("n1")),
    "kernel": (build.template(networks=["secret"]), node("n1", lacks=("esp",))),
    "volume": (build.template("volume"), node("n1")),
    "layer": (build.template("layer"), node("n1", protocol=LAYERS_PROTOCOL - 1)),
    "bind": (build.template("bind"), node("n1")),
    "look": (build.template("look"), node("n1")),
    "image": (build.template("missing"), _full()),
    "cannot": (build.template(networks=["missing"]), node("n1")),
}
"""By the filter, a template and a node that it excludes, whatever the node's task of slot 1 frees.
"""


def _binding(spec: ServiceSpec) -> ServiceSpec:
    mount = Mount(type=MountType.BIND, source="/srv", target="/srv")
    container = replace(spec.task_template.container_spec, mounts=(mount,))
    return replace(spec, task_template=replace(spec.task_template, container_spec=container))


def _outdated(spec: TaskSpec, host: Node) -> tuple[State, Demand]:
    """One node with three outdated tasks of the service and one of another that holds port 80."""
    ports = EndpointSpec(ports=(PORT_80,) if spec.container_spec.image == "port" else ())
    old = service("web", replicas=3)
    web = service("web", replicas=3, spec=spec, version=2, template_version=2)
    web = build.updating(replace(web, spec=replace(web.spec, endpoint_spec=ports)), old.spec)
    if spec.container_spec.image == "layer":
        web = replace(web, spec=replace(web.spec, mode=ContainerMode()))
    if spec.container_spec.image == "volume":
        web = replace(web, spec=build.with_mount(web.spec, "data"))
    if spec.container_spec.image in ("bind", "look"):
        web = replace(web, spec=_binding(web.spec))
    other = service("other")
    other = replace(other, spec=replace(other.spec, endpoint_spec=EndpointSpec(ports=(PORT_80,))))
    secret = network("secret")
    secret = replace(secret, spec=replace(secret.spec, encrypted=True))
    tasks = [task(name, node="n1") for name in ("web.1", "web.2", "web.3", "other.1")]
    state = build.state(nodes=[host], services=[web, other], networks=[secret], tasks=tasks)
    state.apply(Writes(objects=(build.volume("data", "elsewhere"),)))
    if spec.container_spec.image == "bind":
        state.sources.report(host.id, {"/srv": Presence.ABSENT})
    return state, current_demand(state, web, build.NOW)


def _makes_room(state: State, demand: Demand) -> bool:
    def blocks_of(network_id: NetworkId) -> Blocks | None:
        found = state.networks.get(network_id)
        return Blocks(found, state) if found else None

    outdated = next(one for one in state.tasks.values() if one.id == "web.1")
    return makes_room(state, Ledger(state.node_table), blocks_of, demand, outdated)


@pytest.mark.parametrize("name", FILTERS)
def test_no_end_makes_room_where_a_filter_excludes_the_node_all_the_same(name: str) -> None:
    state, demand = _outdated(*FILTERS[name])
    ledger = Ledger(state.node_table)
    assert name in [one.filter.split()[0] for one in explain.exclusions(ledger, demand)]
    assert not capacity(ledger, demand).any()
    assert not _makes_room(state, demand)


def test_every_filter_is_among_them() -> None:
    """A new filter needs a line there, and a condition of `makes_room`."""
    found = re.findall(r'^ +yield f?"(\w+)', inspect.getsource(explain), re.MULTILINE)
    named = dict.fromkeys(found).keys()
    assert named == FILTERS.keys() - {"cannot"}


def test_an_end_makes_room_where_nothing_else_is_short() -> None:
    state, demand = _outdated(build.template(), node("n1"))
    assert _makes_room(state, demand)


@pytest.mark.parametrize("order", UpdateOrder)
def test_an_update_that_fits_on_no_node_stops_no_second_task(order: UpdateOrder) -> None:
    web = service("web", replicas=6)
    world = BrainWorld(build.state(nodes=nodes(3), services=[web]))
    world.converge()
    new = replace(web, spec=replace(web.spec, task_template=build.template(memory=9 * build.GIB)))
    new = replace(new, spec_version=2, template_version=2)
    world.state.apply(
        Writes(objects=(build.updating(new, web.spec, UpdateConfig(order=order), slots=6),))
    )
    world.converge()
    left = [one for one in world.desired("web") if one.state is RUNNING]
    assert len(left) == (6 if order is UpdateOrder.START_FIRST else 5)
