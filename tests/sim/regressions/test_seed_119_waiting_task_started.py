"""A global service's task that waited for room on its node was sent to its agent, which ran it."""

from tests.sim.options import Options
from tests.sim.world import simulate

OPTIONS = Options(
    controllers=3,
    hosts=3,
    seconds=30,
    latency_ms=20.0,
    slow_message=0.015520159228653494,
    request_every_s=1.0,
    services_max=8,
    replicas_max=6,
    bad_images=True,
    reservations=True,
    controller_kill_every_s=16.84434677382596,
    power_loss_every_s=38.771634763972344,
    host_loss_every_s=41.471515988608104,
    cut_every_s=26.83903712672208,
    container_death_every_s=9.602870497312388,
    clock_skew_s=3.8627266615085376,
    history_limit=5,
)


def test_seed_119_keeps_every_law() -> None:
    assert simulate(119, options=OPTIONS).violations == []
