"""Tasks keep off nodes whose kernels cannot carry their networks, and say so when none is left."""

import pytest
from msgspec.structs import replace

from controller.why import why
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NetworkId
from pyswarm_core.objects import Network
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


def test_a_node_that_comes_back_with_another_kernel_takes_what_waited() -> None:
    world = _world(SECRET, lacks=(("esp",),), replicas=1)
    world.settle(dirty("web"))
    world.state.apply(Writes(nodes=(node("n1"),)))
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
