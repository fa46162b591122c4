"""A task that was stopped before its preparation took a first step stayed preparing for ever."""

from tests.sim.options import Options
from tests.sim.world import simulate

OPTIONS = Options(
    controllers=2,
    hosts=3,
    seconds=30,
    latency_ms=0.3,
    slow_message=0.02728620263757582,
    request_every_s=0.5,
    services_max=8,
    replicas_max=6,
    constraints=True,
    node_requests=True,
    controller_kill_every_s=24.86561065651547,
    power_loss_every_s=18.311669590658408,
    clog_every_s=6.405785739137494,
    clock_skew_s=3.065916942155302,
    history_limit=1,
)


def test_seed_280_keeps_every_law() -> None:
    assert simulate(280, options=OPTIONS).violations == []
