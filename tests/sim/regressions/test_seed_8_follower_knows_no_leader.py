"""A follower whose watch began in compacted history told every agent that nobody leads."""

from tests.sim.options import Options
from tests.sim.world import simulate

OPTIONS = Options(
    controllers=3,
    hosts=3,
    seconds=120,
    latency_ms=0.3,
    request_every_s=4.0,
    services_max=2,
    replicas_max=6,
    reservations=True,
    constraints=True,
    node_requests=True,
    controller_kill_every_s=19.230307101485927,
    agent_kill_every_s=7.121156792501499,
    compact_every_s=4.410561922962824,
    history_limit=5,
)


def test_seed_8_keeps_every_law() -> None:
    assert simulate(8, options=OPTIONS).violations == []
