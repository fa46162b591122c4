"""Blocks of a network: given with a node's first task, taken back when nothing can use them."""

from collections import Counter
from ipaddress import IPv4Network

from msgspec.structs import replace

from pyswarm_core.decision import Writes
from pyswarm_core.ids import NetworkId, ServiceId
from pyswarm_core.kinds import NETWORK
from pyswarm_core.limits import BRIDGE_PORTS
from pyswarm_core.objects import Block, Service
from pyswarm_core.states import NodeState, TaskState
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld, changed
from tests.fixtures.build import dirty, network, node, nodes, service, task

SPEC = build.template(networks=["net"])
NET = NetworkId("net")


def _world(hosts: int, replicas: int, subnet: str = "10.128.0.0/16") -> BrainWorld:
    return BrainWorld(
        build.state(
            nodes=nodes(hosts),
            services=[service("web", replicas=replicas, spec=SPEC)],
            networks=[network("net", subnet)],
        )
    )


def _blocks(writes: Writes) -> list[tuple[str, int]]:
    return [(block.cidr, block.node_number) for net in writes.of(NETWORK) for block in net.blocks]


def test_each_node_gets_a_block_with_its_first_task() -> None:
    writes = _world(2, 4).decide(dirty("web")).writes
    assert _blocks(writes) == [("10.128.0.0/26", 1), ("10.128.0.64/26", 2)]


def test_second_task_on_a_node_needs_no_write_of_the_network() -> None:
    world = _world(1, 1)
    world.settle(dirty("web"))
    world.state.apply(Writes(objects=(service("web", replicas=2, spec=SPEC),)))
    assert world.decide(dirty("web")).writes.objects == ()


def test_a_node_with_more_tasks_than_addresses_gets_another_block() -> None:
    writes = _world(1, 62).decide(dirty("web")).writes
    assert _blocks(writes) == [("10.128.0.0/26", 1), ("10.128.0.64/26", 1)]


def test_block_is_given_back_after_the_last_task_ended() -> None:
    world = _world(1, 1)
    world.settle(dirty("web"))
    (held,) = world.state.tasks.values()
    world.state.apply(Writes(objects=(service("web", replicas=0, spec=SPEC),)))
    world.settle(dirty("web"))
    assert len(world.state.networks[NET].blocks) == 1
    world.report("n1", world.state.tasks[held.id], TaskState.SHUTDOWN)
    world.settle(dirty("web"))
    assert world.state.networks[NET].blocks == ()


def test_block_of_a_lost_node_is_not_given_to_another() -> None:
    world = _world(1, 1)
    world.settle(dirty("web"))
    world.put_node(changed(world.state.nodes[node("n1").id], state=NodeState.DOWN))
    world.put_node(node("n2"))
    writes = world.decide(dirty("web", nodes=["n1", "n2"])).writes
    assert _blocks(writes) == [("10.128.0.0/26", 1), ("10.128.0.64/26", 2)]


def test_block_of_a_removed_node_is_free_again() -> None:
    world = _world(1, 0)
    held = replace(network("net"), blocks=(Block(cidr="10.128.0.0/26", node_number=7),))
    world.state.apply(Writes(objects=(held,)))
    assert [net.blocks for net in world.decide().writes.of(NETWORK)] == [()]


def test_restart_on_the_same_node_keeps_its_block() -> None:
    world = _world(1, 1)
    world.settle(dirty("web"))
    (held,) = world.state.tasks.values()
    world.report("n1", held, TaskState.FAILED)
    assert world.decide(dirty("web")).writes.objects == ()


def test_tasks_beyond_the_subnets_addresses_wait_and_say_so() -> None:
    # A /28 is two blocks of five addresses.
    created = _world(3, 12, "10.128.0.0/28").decide(dirty("web")).writes.tasks
    waiting = [t for t in created if t.state is TaskState.PENDING]
    assert len(waiting) == 2
    assert waiting[0].detail.message == (
        "no suitable node: 3 of 3 nodes have no address left on network net,"
        " all of whose blocks are in use"
    )


def test_a_network_has_far_more_than_254_addresses() -> None:
    world = _world(4, 3_000)
    world.settle(dirty("web"))
    assert all(t.state is TaskState.ASSIGNED for t in world.state.tasks.values())
    (network,) = world.state.networks.values()
    assert len(network.blocks) == 4 * 13


def test_a_node_takes_no_more_tasks_of_a_network_than_a_bridge_has_ports() -> None:
    world = _world(2, 2_050)
    world.settle(dirty("web"))
    created = world.state.tasks.values()
    placed = Counter(t.node_id for t in created)
    assert placed == {"n1": BRIDGE_PORTS, "n2": BRIDGE_PORTS, "": 4}
    assert {t.detail.message for t in created if not t.node_id} == {
        "no suitable node: 2 of 2 nodes run 1023 tasks of network net, the most that a host carries"
    }
    world.put_node(node("n3"))
    again = world.decide(dirty("web")).writes.tasks
    assert [t.node_id for t in again] == ["n3"] * 4


def test_tasks_go_where_addresses_are_left() -> None:
    placed = _world(3, 10, "10.128.0.0/28").decide(dirty("web")).writes.tasks
    assert sorted(t.node_id for t in placed) == ["n1"] * 5 + ["n2"] * 5


def test_attachment_to_a_network_that_does_not_exist_waits() -> None:
    state = build.state(nodes=nodes(1), services=[service("web", spec=SPEC)])
    (waiting,) = BrainWorld(state).decide(dirty("web")).writes.tasks
    assert waiting.state is TaskState.PENDING
    assert "network net" in waiting.detail.message


def test_task_that_has_not_ended_keeps_its_address() -> None:
    stopping = [task(f"old.{slot}", node="n1", desired=TaskState.SHUTDOWN) for slot in range(1, 6)]
    full = replace(
        network("net", "10.128.0.0/29"), blocks=(Block(cidr="10.128.0.0/29", node_number=1),)
    )
    state = build.state(
        nodes=nodes(1),
        services=[service("web", spec=SPEC), service("old", replicas=5, spec=SPEC)],
        networks=[full],
        tasks=stopping,
    )
    created = BrainWorld(state).decide(dirty("web")).writes.tasks
    assert [t.state for t in created] == [TaskState.PENDING]


def _with_address(name: str, address: str) -> Service:
    made = service(name, spec=SPEC)
    template = made.spec.task_template
    networks = (replace(template.networks[0], task_ip=address),)
    spec = replace(made.spec, task_template=replace(template, networks=networks))
    return replace(made, spec=spec)


def _placed(world: BrainWorld, name: str) -> set[str]:
    tasks = world.state.tasks_of_service(ServiceId(name)).slots.values()
    return {task.node_id for slot in tasks for task in slot}


def test_a_chosen_address_brings_its_block() -> None:
    world = BrainWorld(
        build.state(
            nodes=nodes(2),
            services=[_with_address("db", "10.128.0.130")],
            networks=[network("net", "10.128.0.0/16")],
        )
    )
    assert _blocks(world.decide(dirty("db")).writes) == [("10.128.0.128/26", 1)]


def test_a_chosen_address_in_the_block_of_a_node_places_its_task_there() -> None:
    world = _world(3, 3)
    world.settle(dirty("web"))
    owners = {block.cidr: block.node_number for block in world.state.networks[NET].blocks}
    for index, cidr in enumerate(owners):
        address = str(IPv4Network(cidr)[9])
        world.state.apply(Writes(objects=(_with_address(f"db{index}", address),)))
        world.settle(dirty(f"db{index}"))
        assert _placed(world, f"db{index}") == {f"n{owners[cidr]}"}
    assert {b.cidr: b.node_number for b in world.state.networks[NET].blocks} == owners


def test_a_task_with_a_chosen_address_waits_for_the_node_that_has_its_block() -> None:
    world = _world(2, 2)
    world.settle(dirty("web"))
    (first, *_) = world.state.networks[NET].blocks
    gone = next(n for n in world.state.nodes.values() if n.number == first.node_number)
    world.put_node(changed(gone, state=NodeState.DOWN))
    world.state.apply(Writes(objects=(_with_address("db", str(IPv4Network(first.cidr)[9])),)))
    world.settle(dirty("db"))
    (task,) = world.state.tasks_of_service(ServiceId("db")).slots[1]
    assert task.node_id == ""
    assert "do not have the block of address 10.128.0.9 on network net" in task.detail.message
