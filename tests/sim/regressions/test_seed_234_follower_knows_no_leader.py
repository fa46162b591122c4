"""A follower whose watch began in compacted history told every agent that nobody leads."""

from tests.sim.options import Options
from tests.sim.world import simulate

OPTIONS = Options(
    controllers=2,
    hosts=5,
    seconds=60,
    latency_ms=20.0,
    request_every_s=4.0,
    services_max=4,
    replicas_max=3,
    small_subnets=True,
    bad_images=True,
    reservations=True,
    constraints=True,
    controller_kill_every_s=18.95016627545977,
    controller_stall_every_s=16.35991007623631,
    agent_kill_every_s=9.7934216774008,
    cut_every_s=29.01743096675886,
    compact_every_s=9.424900861075393,
    clock_skew_s=10.475162990759527,
    history_limit=5,
)


def test_seed_234_keeps_every_law() -> None:
    assert simulate(234, options=OPTIONS).violations == []
