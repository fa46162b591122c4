"""Two controllers that believe they lead: only the fence keeps the deposed one's writes out.

The first is paused when it is to decide on a request; it goes on with that when another leads. For
a millisecond it tries to renew its lease, and its commit arrives in that time: messages are fast,
and etcd's answer, by which it would learn that its lease is over, is lost.
"""

from pyswarm_core.clock import SECOND
from pyswarm_core.specs import ReplicatedMode
from tests.sim.script import CALM, Step, after, create, leader, play, ready
from tests.sim.store import NAME
from tests.sim.world import World

FAST = CALM.but(controllers=2, latency_ms=0.1)
TWO = ReplicatedMode(replicas=2)


def _is_to_decide(world: World) -> bool:
    loop = leader(world).loop
    return loop is not None and loop.queue_depths["dirty_services"] > 0


def _pause(world: World) -> None:
    process = leader(world).process
    assert process is not None
    process.stall(8 * SECOND)


def _two_lead(world: World) -> bool:
    return sum(machine.loop is not None for machine in world.machines) == 2


def _ask_the_deposed(world: World) -> None:
    deposed = next(one for one in world.machines if one.process and one.process.stalled)
    world.net.cut(NAME, deposed.name)
    create("third", TWO)(world)


def test_a_deposed_leader_writes_nothing() -> None:
    steps = [
        Step(ready, create("first", TWO)),
        Step(after(5), create("second", TWO)),
        Step(_is_to_decide, _pause),
        Step(_two_lead, _ask_the_deposed),
    ]
    result = play(steps, FAST)
    assert result.violations == []
    assert result.marks["deposed leader's commit refused"]
