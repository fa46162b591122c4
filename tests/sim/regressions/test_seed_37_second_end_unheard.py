"""A task prepared anew after a power loss ended, and nobody was told: its id had ended before."""

from tests.sim.options import Options
from tests.sim.world import simulate

OPTIONS = Options(
    controllers=2,
    hosts=3,
    seconds=60,
    latency_ms=20.0,
    request_every_s=1.0,
    services_max=4,
    replicas_max=6,
    networks=True,
    constraints=True,
    controller_stall_every_s=18.227530118868497,
    power_loss_every_s=23.713620509269948,
    host_loss_every_s=31.081109359547536,
    cut_every_s=22.956333332635595,
    history_limit=0,
)


def test_seed_37_keeps_every_law() -> None:
    assert simulate(37, options=OPTIONS).violations == []
