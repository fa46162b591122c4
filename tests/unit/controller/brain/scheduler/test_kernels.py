"""Tasks keep off nodes whose kernels cannot carry their networks, and say so when none is left."""

from typing import Any

import pytest
from msgspec.structs import replace

from controller.api.queries.why import why
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NetworkId, NodeId
from pyswarm_core.kinds import NODE
from pyswarm_core.objects import Network, Node, NodeFault
from pyswarm_core.states import TaskState
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld
from tests.fixtures.build import NOW, dirty, network, node, service

PLAIN = network("plain", "10.129.0.0/16", 4097)
SECRET = replace(network("secret"), spec=replace(network("secret").spec, encrypted=True))
DUAL = replace(network("dual", "10.130.0.0/16", 4098), subnet6="fd00::/64")


def _world(*joined: Network, lacks: tuple[tuple[str, ...], ...], replicas: int = 4) -> BrainWorld:
    spec = build.template(networks=[one.id for one in joined])
    return BrainWorld(
        build.state(
            nodes=[node(f"n{n}", lacks=lack) for n, lack in enumerate(lacks, 1)],
            services=[service("web", replicas=replicas, spec=spec)],
            networks=[PLAIN, SECRET, DUAL],
        )
    )


@pytest.mark.parametrize(
    ("joined", "able"),
    [
        ((PLAIN,), {"n1", "n2", "n3", "n4"}),
        ((SECRET,), {"n1", "n3"}),
        ((PLAIN, DUAL), {"n1", "n2"}),
        ((SECRET, DUAL), {"n1"}),
    ],
)
def test_tasks_go_only_to_nodes_that_can_carry_their_networks(
    joined: tuple[Network, ...], able: set[str]
) -> None:
    world = _world(*joined, lacks=((), ("esp",), ("ipv6",), ("esp", "ipv6", "a later word")))
    assert {task.node_id for task in world.decide(dirty("web")).writes.tasks} == able


def test_a_task_that_no_kernel_can_take_says_how_many_lack_what_and_the_remedy() -> None:
    world = _world(SECRET, lacks=(("esp",), ("esp",), ("esp", "ipv6")), replicas=1)
    world.settle(dirty("web"))
    (waiting,) = world.state.tasks.values()
    assert waiting.detail.message == (
        "no suitable node: 3 of 3 nodes have no ESP in the kernel, which network secret needs"
    )
    assert why(world.state, "web", NOW)[2:] == [
        "3 of 3 nodes have no ESP in the kernel, which network secret needs",
        "remedy: give n1 a kernel with IPsec ESP and AES-GCM"
        " (CONFIG_XFRM_USER, CONFIG_INET_ESP, CONFIG_CRYPTO_GCM)",
    ]


APPARMOR = ("apparmor=mine",)


def _isolated(*lacks: tuple[str, ...], replicas: int = 3, **fields: Any) -> BrainWorld:
    spec = build.template()
    spec = replace(spec, container_spec=replace(spec.container_spec, **fields))
    return BrainWorld(
        build.state(
            nodes=[node(f"n{n}", lacks=lack) for n, lack in enumerate(lacks, 1)],
            services=[service("web", replicas=replicas, spec=spec)],
        )
    )


@pytest.mark.parametrize(
    ("fields", "able"),
    [
        ({}, {"n1", "n2", "n3"}),
        ({"userns_mode": "auto"}, {"n1", "n3"}),
        ({"userns_mode": "host"}, {"n1", "n2", "n3"}),
        ({"security_opt": APPARMOR}, {"n1", "n2"}),
        ({"security_opt": ("apparmor=unconfined",)}, {"n1", "n2", "n3"}),
        ({"userns_mode": "private", "security_opt": APPARMOR}, {"n1"}),
    ],
)
def test_containers_go_only_to_nodes_that_can_isolate_them(
    fields: dict[str, Any], able: set[str]
) -> None:
    world = _isolated((), ("userns",), ("apparmor",), **fields)
    assert {task.node_id for task in world.decide(dirty("web")).writes.tasks} == able


def test_a_container_that_no_node_can_isolate_says_why_and_runs_once_one_can() -> None:
    world = _isolated(("userns", "apparmor"), replicas=1, userns_mode="auto")
    world.settle(dirty("web"))
    (waiting,) = world.state.tasks.values()
    text = "1 of 1 nodes have no user namespaces in the kernel, which --userns auto needs"
    assert waiting.detail.message == f"no suitable node: {text}"
    (remedy,) = [line for line in why(world.state, "web", NOW) if line.startswith("remedy")]
    assert remedy.startswith("remedy: give n1 a kernel with user namespaces and idmapped mounts")
    world.state.apply(Writes(objects=(node("n1", lacks=("apparmor",)),)))
    (placed,) = world.decide(dirty(nodes=["n1"])).writes.tasks
    assert (placed.state, placed.node_id) == (TaskState.ASSIGNED, "n1")


def test_a_node_that_comes_back_with_another_kernel_takes_what_waited() -> None:
    world = _world(SECRET, lacks=(("esp",),), replicas=1)
    world.settle(dirty("web"))
    world.state.apply(Writes(objects=(node("n1"),)))
    (placed,) = world.decide(dirty(nodes=["n1"])).writes.tasks
    assert (placed.state, placed.node_id) == (TaskState.ASSIGNED, "n1")


def test_no_remedy_is_a_kernel_where_something_else_is_short() -> None:
    spec = build.template(networks=[NetworkId("secret")], constraints=["node.labels.a==b"])
    state = build.state(
        nodes=[node("n1", lacks=("esp",))],
        services=[service("web", replicas=1, spec=spec)],
        networks=[SECRET],
    )
    world = BrainWorld(state)
    world.settle(dirty("web"))
    assert not [line for line in why(world.state, "web", NOW) if line.startswith("remedy")]


def test_a_node_that_cannot_carry_a_network_gets_no_tasks_of_it_until_it_can() -> None:
    world = _world(PLAIN, lacks=((), (), ()))
    broken = _faulty(world.state.nodes[NodeId("n2")], NodeFault(PLAIN.id, "no device", blocks=True))
    world.state.apply(Writes(objects=(broken,)))
    assert {task.node_id for task in world.decide(dirty("web")).writes.tasks} == {"n1", "n3"}
    world.state.apply(Writes(objects=(_faulty(broken),)))
    assert len({task.node_id for task in world.decide(dirty("web")).writes.tasks}) == 3


@pytest.mark.parametrize(
    ("fault", "able"),
    [
        (NodeFault(PLAIN.id, "a peer makes no sense"), True),
        (NodeFault(SECRET.id, "another network", blocks=True), True),
        (NodeFault(NetworkId(""), "nft is not installed", blocks=True), False),
    ],
)
def test_only_what_concerns_its_networks_keeps_a_task_away(fault: NodeFault, *, able: bool) -> None:
    world = _world(PLAIN, lacks=((),), replicas=1)
    world.state.apply(Writes(objects=(_faulty(world.state.nodes[NodeId("n1")], fault),)))
    (task,) = world.decide(dirty("web")).writes.tasks
    assert (task.node_id == "n1") is able


def test_a_task_that_waits_for_a_network_says_what_the_host_said() -> None:
    world = _world(PLAIN, lacks=((), ()), replicas=1)
    fault = NodeFault(PLAIN.id, "the kernel refused: File exists", blocks=True)
    nodes = tuple(_faulty(one, fault) for one in world.state.nodes.values())
    world.state.apply(Writes(objects=nodes))
    world.settle(dirty("web"))
    (waiting,) = world.state.tasks.values()
    text = "2 of 2 nodes cannot carry network plain (n1: the kernel refused: File exists)"
    assert waiting.detail.message == f"no suitable node: {text}"
    assert text in "\n".join(why(world.state, "web", NOW))


def test_a_removed_nodes_faults_are_forgotten() -> None:
    world = _world(PLAIN, lacks=((), ()))
    fault = NodeFault(PLAIN.id, "no device", blocks=True)
    world.state.apply(Writes(objects=(_faulty(world.state.nodes[NodeId("n1")], fault),)))
    table = world.state.node_table
    assert table.blocked(PLAIN.id) == [table.rows[NodeId("n1")]]
    world.state.apply(Writes(removed=(NODE.object_name(NodeId("n1")),)))
    assert table.blocked(PLAIN.id) == []


def _faulty(node: Node, *faults: NodeFault) -> Node:
    return replace(node, status=replace(node.status, faults=faults))
