"""What is kept of networks' blocks is what one would work out anew, and costs what changed."""

from random import Random

import pytest
from msgspec.structs import replace

from controller.brain.allocator import held
from controller.brain.allocator.held import held_of
from controller.brain.allocator.subnets import read_block
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NetworkId
from pyswarm_core.kinds import NETWORK
from pyswarm_core.objects import Block, Network
from pyswarm_core.state import State
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld

NET = NetworkId("net")
SUBNET = "10.0.0.0/12"


def block(index: int, number: int) -> Block:
    return Block(
        cidr=f"10.{index >> 10}.{index >> 2 & 255}.{index % 4 * 64}/26", node_number=number
    )


def network_with(*blocks: Block) -> Network:
    return replace(build.network("net", SUBNET), blocks=blocks)


def known_of(state: State) -> dict[str, object]:
    idle, kept = state.idle_blocks, held_of(state.networks[NET], state)
    return {
        "of network": {n: sorted(has) for n, has in idle.of_network(NET).items()},
        "networks of": [dict(idle.networks_of(number)) for number in range(12)],
        "idle": {one: set(numbers) for one, numbers in idle.networks.items()},
        "used": kept.used,
        "times": kept.times,
        "room": kept.room,
    }


def changed(rand: Random, blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """Some of the blocks, perhaps in another order, and some others, perhaps twice."""
    kept = [one for one in blocks if rand.random() < rand.choice([0.5, 0.9, 1])]
    if rand.random() < 0.2:
        rand.shuffle(kept)
    for _ in range(rand.choice([0, 1, 5])):
        at = rand.choice([len(kept), rand.randint(0, len(kept))])
        kept.insert(at, block(rand.randrange(40), rand.randrange(12)))
    return tuple(kept)


@pytest.mark.parametrize("seed", range(40))
def test_changes_leave_what_is_worked_out_anew(seed: int) -> None:
    rand = Random(seed)
    fleet = build.nodes(8)
    tasks = [build.task(f"web.{n}", node=f"n{n}") for n in (1, 2, 3)]
    web = build.service("web", spec=build.template(networks=["net"]))
    state = build.state(nodes=fleet, services=[web], networks=[network_with()], tasks=tasks)
    for _ in range(15):
        network = network_with(*changed(rand, state.networks[NET].blocks))
        if rand.random() < 0.1:
            state.apply(Writes(removed=(NETWORK.object_name(NET),)))
            assert not state.idle_blocks.derived
        state.apply(Writes(objects=(network,)))
        anew = build.state(nodes=fleet, services=[web], networks=[network], tasks=tasks)
        assert known_of(state) == known_of(anew)


def test_a_block_that_cannot_be_read_changes_nothing_of_what_is_kept() -> None:
    state = build.state(networks=[network_with(block(0, 1))])
    before = known_of(state)
    for torn in ("10.0.0.0", "10.0.0/26", "10.0.256.0/26", "10.0.0.0/33", ""):
        with pytest.raises(ValueError, match=r"block|int|bytes"):
            held_of(network_with(block(1, 2), Block(cidr=torn, node_number=3)), state)
        assert known_of(state) == before


def test_a_decision_reads_the_blocks_that_changed_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = build.template(networks=["net"])
    full = network_with(*(block(n, n) for n in range(1, 301)))
    state = build.state(
        nodes=build.nodes(302),
        services=[build.service("all", replicas=300, spec=spec)],
        networks=[full],
        tasks=[build.task(f"all.{n}", node=f"n{n}") for n in range(1, 301)],
    )
    world = BrainWorld(state)
    read: list[str] = []

    def counted(cidr: str) -> tuple[int, int]:
        read.append(cidr)
        return read_block(cidr)

    monkeypatch.setattr(held, "read_block", counted)
    for replicas, blocks in ((301, 300 + 1), (302, 1), (303, 0)):
        del read[:]
        state.apply(Writes(objects=(build.service("all", replicas=replicas, spec=spec),)))
        world.settle(build.dirty("all"))
        held_of(state.networks[NET], state)
        assert len(read) == blocks
    assert state.networks[NET].blocks[300:] == (block(0, 301), block(301, 302))
