"""Networks of a container that change while its task runs: blocks, counts, acknowledgements."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from controller.api.changes.networks import remove_network
from controller.api.changes.reported import Reports
from controller.api.changes.services import Rollback, Update, rollback_service, update_service
from controller.api.queries.progress import service_progress
from controller.api.queries.why import why
from controller.brain.allocator.audit import audit
from controller.brain.revisions import in_place, made_from
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, InvalidArgument
from pyswarm_core.ids import NetworkId, NodeId, ServiceId
from pyswarm_core.limits import BRIDGE_PORTS
from pyswarm_core.objects import NodeFault, Service, TaskAddress, TaskDetail, TaskStatus
from pyswarm_core.specs import EndpointSpec, NetworkAttachment, PortConfig, TaskSpec
from pyswarm_core.states import Capability, TaskState, UpdateState
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld
from tests.fixtures.build import SERVES, dirty, nodes

WEB = ServiceId("web")
APP, OTHER = NetworkId("app"), NetworkId("other")
NODE = NodeId("n1")


def on(*targets: str, **ips: str) -> TaskSpec:
    networks = tuple(NetworkAttachment(target=t, task_ip=ips.get(t, "")) for t in targets)
    return replace(build.template(), networks=networks)


def world_of(*targets: str, detail: TaskDetail = SERVES) -> BrainWorld:
    """A container on these networks, with its task on n1, which has an address on each."""
    networks = [build.network("app"), build.network("other", "10.129.0.0/16", vni=4097)]
    web = replace(build.container("web", spec=on(*targets)), pinned_node=NODE)
    state = build.state(nodes=nodes(2), services=[web], networks=networks)
    world = BrainWorld(state)
    world.settle(dirty("web"))
    (task,) = world.desired("web")
    world.report(NODE, task, TaskState.RUNNING, replace(detail, addresses=addresses(world)))
    world.settle(dirty("web"))
    return world


def addresses(world: BrainWorld) -> tuple[TaskAddress, ...]:
    """An address of the node's first block on each network of the spec."""
    found = []
    for target in world.state.services[WEB].spec.task_template.overlays:
        network = world.state.networks[target]
        (block,) = [b for b in network.blocks if b.node_number == 1]
        found.append(TaskAddress(network_id=target, address=block.cidr.replace(".0/26", ".2")))
    return tuple(found)


def rejoin(world: BrainWorld, template: TaskSpec) -> Service:
    web = world.state.services[WEB]
    template = replace(web.spec.task_template, networks=template.networks)
    spec = replace(web.spec, task_template=template)
    update = Update("web", web.version, spec)
    writes, updated = update_service(world.state, update, (), world.now, world.ids)
    world.state.apply(writes)
    return updated


def acknowledge(world: BrainWorld, error: str = "", *, refused: bool = False) -> None:
    """The agent of the container's task joined its networks, or could not."""
    (task,) = world.desired("web")
    version = world.state.services[WEB].in_place_version
    held = task.detail.addresses if error else addresses(world)
    detail = replace(
        SERVES,
        addresses=held,
        in_place_version=version,
        in_place_error=error,
        networks_refused=refused,
    )
    world.report(NODE, task, TaskState.RUNNING, detail)


def load(world: BrainWorld, network_id: NetworkId) -> int:
    return world.state.network_load.get(network_id, {}).get(NODE, 0)


def block_owners(world: BrainWorld, network_id: NetworkId) -> list[int]:
    return [block.node_number for block in world.state.networks[network_id].blocks]


def test_a_container_joins_and_leaves_a_network_without_another_task() -> None:
    world = world_of("app")
    before = dict.fromkeys(world.state.tasks)
    joined = rejoin(world, on("app", "other"))
    assert [vip.network_id for vip in joined.endpoint.virtual_ips] == [APP, OTHER]
    world.settle(dirty("web"))
    assert block_owners(world, OTHER) == [1], "the decision gives its node a block"
    assert not service_progress(world.state, WEB, world.now).converged
    acknowledge(world)
    world.settle(dirty("web"))
    assert service_progress(world.state, WEB, world.now).converged
    assert (load(world, APP), load(world, OTHER)) == (1, 1)

    rejoin(world, on("other"))
    world.settle(dirty("web"))
    assert load(world, APP) == 1, "its agent has yet to leave"
    assert block_owners(world, APP) == [1]
    with pytest.raises(Conflict, match='network "app" is in use by container "web"'):
        remove_network(world.state, "app")
    acknowledge(world)
    world.settle(dirty("web"))
    assert load(world, APP) == 0
    assert block_owners(world, APP) == [], "the block is free"
    remove_network(world.state, "app")
    assert dict.fromkeys(world.state.tasks) == before
    assert not list(filter(None, audit(world.state)))


def test_a_network_is_left_once_the_agent_says_so_even_if_its_address_was_never_reported() -> None:
    """The agent may have attached the task and been silent since."""
    world = world_of("app")
    (task,) = world.desired("web")
    silent = replace(task, detail=replace(task.detail, addresses=()))
    world.state.apply(Writes(tasks=[silent]))
    rejoin(world, on("none"))
    world.settle(dirty("web"))
    assert load(world, APP) == 1
    assert block_owners(world, APP) == [1]
    world.report(NODE, silent, TaskState.RUNNING, replace(SERVES, in_place_version=2))
    world.settle(dirty("web"))
    assert load(world, APP) == 0


def test_counts_are_those_of_a_new_leader_at_every_step() -> None:
    world = world_of("app")

    def compared() -> None:
        again = build.state(
            nodes=world.state.nodes.values(),
            services=world.state.services.values(),
            networks=world.state.networks.values(),
            tasks=world.state.tasks.values(),
        )
        loads = {n: by for n, by in world.state.network_load.items() if by}
        assert {n: by for n, by in again.network_load.items() if by} == loads

    for template in (on("app", "other"), on("other"), on("none"), on("other", "app")):
        rejoin(world, template)
        compared()
        world.settle(dirty("web"))
        compared()
        acknowledge(world)
        compared()
    (task,) = world.desired("web")
    rejoin(world, on("app"))
    world.report(NODE, task, TaskState.COMPLETE, replace(SERVES, ran=9))
    assert not any(world.state.network_load.values()), "nothing is left of an ended task"


def test_a_rollback_takes_a_network_back_in_the_same_container() -> None:
    world = world_of("app")
    (task,) = world.desired("web")
    rejoin(world, on("app", "other"))
    world.settle(dirty("web"))
    acknowledge(world)
    world.settle(dirty("web"))
    writes, _ = rollback_service(world.state, Rollback("web"), (), world.now, world.ids)
    world.state.apply(writes)
    world.settle(dirty("web"))
    acknowledge(world)
    world.settle(dirty("web"))
    assert service_progress(world.state, WEB, world.now).converged
    assert [one.id for one in world.desired("web")] == [task.id]
    assert load(world, OTHER) == 0


def test_a_refused_network_pauses_the_change_and_replaces_nothing() -> None:
    world = world_of("app")
    (task,) = world.desired("web")
    rejoin(world, on("app", "other"))
    world.settle(dirty("web"))
    acknowledge(world, "network other overlaps a route of this host", refused=True)
    world.settle(dirty("web"))
    status = world.state.services[WEB].update_status
    assert status is not None
    assert status.state is UpdateState.PAUSED
    assert status.message.endswith("network other overlaps a route of this host")
    assert [one.id for one in world.desired("web")] == [task.id]
    progress = service_progress(world.state, WEB, world.now)
    assert (progress.converged, progress.is_paused) == (False, True)
    lines = list(why(world.state, "web", world.now))
    assert any("could not join its networks" in line for line in lines)

    rejoin(world, on("app"))
    world.settle(dirty("web"))
    acknowledge(world)
    world.settle(dirty("web"))
    assert service_progress(world.state, WEB, world.now).converged
    assert [one.id for one in world.desired("web")] == [task.id]


def test_refused_limits_still_replace_a_container() -> None:
    world = world_of("app")
    rejoin(world, on("app", "other"))
    world.settle(dirty("web"))
    acknowledge(world, "80MiB are in use")
    decision = world.decide(dirty("web"))
    assert [one.desired_state for one in decision.writes.tasks] == [TaskState.SHUTDOWN]


def test_publishing_through_the_mesh_still_replaces_a_container() -> None:
    web = build.container("web").spec
    published = replace(web, endpoint_spec=EndpointSpec(ports=(PortConfig(target_port=80),)))
    assert made_from(web) != made_from(published)
    host = replace(web, task_template=on("host"))
    assert made_from(web) != made_from(host), "it has another network namespace"
    assert made_from(web) == made_from(replace(web, task_template=on("bridge", "app")))
    assert in_place(web) != in_place(replace(web, task_template=on("app")))
    service = build.service("web").spec
    assert made_from(service) != made_from(replace(service, task_template=on("app")))


def lacking(world: BrainWorld) -> None:
    node = world.state.nodes[NODE]
    description = replace(node.description, lacks=(Capability.ESP,))
    other = world.state.networks[OTHER]
    encrypted = replace(other, spec=replace(other.spec, encrypted=True))
    world.state.apply(Writes(objects=(replace(node, description=description), encrypted)))


def faulty(world: BrainWorld) -> None:
    node = world.state.nodes[NODE]
    fault = NodeFault(network_id=OTHER, reason="it overlaps a route", blocks=True)
    changed = replace(node, status=replace(node.status, faults=(fault,)))
    world.state.apply(Writes(objects=(changed,)))


def crowded(world: BrainWorld) -> None:
    world.state.network_load[OTHER] = {NODE: BRIDGE_PORTS}


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (lacking, 'cannot carry network "other": its kernel lacks IPsec ESP'),
        (faulty, 'cannot carry network "other": it overlaps a route'),
        (crowded, 'has no address on network "other": it runs'),
    ],
)
def test_what_the_node_lacks_is_the_answer(
    prepare: Callable[[BrainWorld], None], told: str
) -> None:
    world = world_of("app")
    prepare(world)
    before = world.state.services[WEB]
    with pytest.raises(Conflict, match=told):
        rejoin(world, on("app", "other"))
    assert world.state.services[WEB] is before


def test_an_address_of_another_nodes_block_or_task_is_refused() -> None:
    world = world_of("app")
    world.state.apply(Writes(objects=(build.service("db", spec=on("other")),)))
    world.settle(dirty("db"))
    (db,) = world.desired("db")
    (block,) = world.state.networks[OTHER].blocks
    owner = world.state.nodes[db.node_id]
    held = TaskAddress(network_id=OTHER, address="10.129.0.9")
    world.report(db.node_id, db, TaskState.RUNNING, replace(SERVES, addresses=(held,)))
    told = (
        f"in block {block.cidr} of node {owner.description.hostname}, and the container is on"
        if owner.id != NODE
        else 'is already that of "db.1"'
    )
    with pytest.raises(Conflict, match=told):
        rejoin(world, on("app", "other", other="10.129.0.9"))
    with pytest.raises(InvalidArgument, match="expected an address for tasks of network"):
        rejoin(world, on("app", "other", other="10.130.0.9"))
    rejoin(world, on("app", "other", other="10.129.4.9"))
    world.settle(dirty("web"))
    blocks = {b.cidr: b.node_number for b in world.state.networks[OTHER].blocks}
    assert blocks["10.129.4.0/26"] == 1


def test_an_agent_may_report_addresses_on_a_network_that_the_container_leaves() -> None:
    world = world_of("app")
    (task,) = world.desired("web")
    rejoin(world, on("other"))
    world.settle(dirty("web"))
    new = addresses(world)
    both = replace(task.detail, addresses=(*task.detail.addresses, *new), serving=False)
    status = TaskStatus(task.id, TaskState.RUNNING, both)
    assert Reports(world.state, NODE).checked([status]) == [status]
    acknowledge(world)
    again = TaskStatus(task.id, TaskState.RUNNING, replace(both, in_place_version=2))
    (checked,) = Reports(world.state, NODE).checked([again])
    assert checked.detail.addresses == new, "it has left that one"
