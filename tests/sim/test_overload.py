"""Slowness is not death: agents and leaders that stand still for a while lose no node."""

import pytest

from tests.sim.options import Options
from tests.sim.world import simulate

SEEDS = range(5)
DOWN = "node declared down"
ANSWERED = "silent agent's host answered probes"
STALLS = Options(hosts=4, seconds=120, agent_stall_every_s=3, networks=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_node_is_down_while_agents_are_stopped_for_less_than_their_grace(seed: int) -> None:
    result = simulate(seed, options=STALLS)
    assert result.violations == []
    assert DOWN not in result.marks
    assert ANSWERED in result.marks


@pytest.mark.parametrize("seed", SEEDS)
def test_no_node_is_down_because_the_leader_is_stopped(seed: int) -> None:
    options = Options(hosts=4, seconds=120, controllers=2, controller_stall_every_s=4)
    result = simulate(seed, options=options)
    assert result.violations == []
    assert DOWN not in result.marks
