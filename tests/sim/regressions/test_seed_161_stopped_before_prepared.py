"""A task that was stopped before its preparation took a first step stayed preparing for ever."""

from tests.sim.options import Options
from tests.sim.world import simulate

OPTIONS = Options(
    controllers=2,
    hosts=2,
    seconds=60,
    latency_ms=5.0,
    slow_message=0.001514576792196396,
    request_every_s=2.0,
    services_max=2,
    replicas_max=3,
    networks=True,
    bad_images=True,
    reservations=True,
    constraints=True,
    node_requests=True,
    controller_kill_every_s=7.50476545130986,
    controller_stall_every_s=20.568396884977105,
    agent_kill_every_s=13.396266410803044,
    cut_every_s=23.753261187545263,
    clog_every_s=18.472455966901236,
    container_death_every_s=11.436575416374776,
    history_limit=2,
)


def test_seed_161_keeps_every_law() -> None:
    assert simulate(161, options=OPTIONS).violations == []
