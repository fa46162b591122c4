"""Two controllers that believe they lead: only the fence keeps the deposed one's writes out."""

from tests.sim.options import Options
from tests.sim.world import simulate

OPTIONS = Options(
    controllers=3,
    hosts=3,
    seconds=60,
    latency_ms=1.0,
    request_every_s=2.0,
    services_max=4,
    replicas_max=6,
    networks=True,
    reservations=True,
    constraints=True,
    small_transactions=True,
    controller_stall_every_s=21.566138602068,
    host_loss_every_s=54.871517367177795,
    clog_every_s=28.14619673737786,
    container_death_every_s=10.37936486966227,
    history_limit=0,
)


def test_seed_7_keeps_every_law() -> None:
    assert simulate(7, options=OPTIONS).violations == []
