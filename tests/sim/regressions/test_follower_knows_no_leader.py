"""A follower whose watch began in compacted history told every agent that nobody leads."""

from tests.sim.script import CALM, Step, after, leader, play, ready
from tests.sim.world import World


def _restart_follower(world: World) -> None:
    leading = leader(world)
    follower = next(machine for machine in world.machines if machine is not leading)
    follower.kill()
    follower.boot()


def test_a_follower_names_the_leader_whatever_was_compacted() -> None:
    steps = [
        Step(ready, lambda world: None),
        Step(after(5), lambda world: world.etcd.compact()),
        Step(lambda world: True, _restart_follower),
    ]
    result = play(steps, CALM.but(controllers=2))
    assert result.violations == []
