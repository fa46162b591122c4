"""A global service's task that waited for room on its node was sent to its agent, which ran it."""

from tests.sim.options import Options
from tests.sim.world import simulate

OPTIONS = Options(
    controllers=3,
    hosts=3,
    seconds=120,
    latency_ms=0.3,
    request_every_s=0.5,
    services_max=8,
    replicas_max=12,
    networks=True,
    small_subnets=True,
    reservations=True,
    small_transactions=True,
    controller_stall_every_s=14.402307679846109,
    power_loss_every_s=16.362940401184737,
    cut_every_s=10.139523910534363,
    clog_every_s=27.76710120460249,
    compact_every_s=8.853491723887041,
    history_limit=5,
)


def test_seed_35_keeps_every_law() -> None:
    assert simulate(35, options=OPTIONS).violations == []
