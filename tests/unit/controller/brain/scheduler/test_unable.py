"""A host that cannot start containers gets no new tasks until it can, and says why."""

from msgspec.structs import replace

from controller.api.queries.why import why
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NetworkId, NodeId
from pyswarm_core.objects import Node, NodeFault
from tests.fixtures.build import NOW, dirty
from tests.unit.controller.brain.scheduler.test_kernels import PLAIN, _world

FULL = "cannot start containers: no space left on device: /var/lib/pyswarm"
FAULT = NodeFault(NetworkId(""), FULL, blocks=True)


def faulty(node: Node, *faults: NodeFault) -> Node:
    return replace(node, status=replace(node.status, faults=faults))


def test_other_nodes_take_the_tasks_of_a_host_that_cannot_start_any() -> None:
    world = _world(PLAIN, lacks=((), ()), replicas=4)
    world.state.apply(Writes(objects=(faulty(world.state.nodes[NodeId("n1")], FAULT),)))
    assert {task.node_id for task in world.decide(dirty("web")).writes.tasks} == {"n2"}


def test_what_waits_says_why_and_is_placed_once_the_host_is_able() -> None:
    world = _world(PLAIN, lacks=((),), replicas=1)
    node = world.state.nodes[NodeId("n1")]
    world.state.apply(Writes(objects=(faulty(node, FAULT),)))
    world.settle(dirty("web"))
    (waiting,) = world.state.tasks.values()
    text = f"1 of 1 nodes can start no task now (n1: {FULL})"
    assert waiting.detail.message == f"no suitable node: {text}"
    said = "\n".join(why(world.state, "web", NOW))
    assert text in said
    assert "repair n1" in said
    world.state.apply(Writes(objects=(node,)))
    world.settle(dirty("web"))
    (placed,) = world.state.tasks.values()
    assert placed.node_id == "n1"


def test_a_fault_that_does_not_block_keeps_nothing_away() -> None:
    world = _world(PLAIN, lacks=((),), replicas=1)
    node = faulty(world.state.nodes[NodeId("n1")], replace(FAULT, blocks=False))
    world.state.apply(Writes(objects=(node,)))
    assert [task.node_id for task in world.decide(dirty("web")).writes.tasks] == ["n1"]
