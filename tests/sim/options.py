"""What kind of run a seed is: sizes, workload, and which faults happen how often.

Many seeds switch whole classes of faults off, so that each is also met alone ("swarm testing"):
a run with every fault at once hides bugs that need a calm stretch.
"""

from typing import Any

import msgspec
from msgspec.structs import replace

from pyswarm_core.limits import DECISION_COST, PLACING_COST
from tests.sim.rand import Chance


class Options(msgspec.Struct, frozen=True):
    """One run's settings. Probabilities are per chance, `_every_s` mean intervals (0: never)."""

    controllers: int = 1
    hosts: int = 3
    seconds: int = 60
    """Virtual time of unrest; after it comes the healing."""
    latency_ms: float = 1.0
    slow_message: float = 0.0
    loss: float = 0.0
    reply_lost: float = 0.0
    request_every_s: float = 3.0
    services_max: int = 6
    replicas_max: int = 8
    networks: bool = False
    ports: bool = False
    small_subnets: bool = False
    bad_images: bool = False
    reservations: bool = False
    constraints: bool = False
    node_requests: bool = False
    small_transactions: bool = False
    controller_kill_every_s: float = 0.0
    controller_stall_every_s: float = 0.0
    agent_kill_every_s: float = 0.0
    power_loss_every_s: float = 0.0
    host_loss_every_s: float = 0.0
    cut_every_s: float = 0.0
    clog_every_s: float = 0.0
    etcd_restart_every_s: float = 0.0
    compact_every_s: float = 0.0
    container_death_every_s: float = 0.0
    clock_skew_s: float = 0.0
    history_limit: int = 5
    controller_loss: bool = False
    """One of several controllers is lost for good."""
    host_drill: bool = False
    leader_drill: bool = False
    days: bool = False
    hostile: bool = False
    """One host's agent also says what is not true."""
    encryption: bool = False
    """Networks may be encrypted or have IPv6, and some kernels carry neither."""
    agent_stall_every_s: float = 0.0
    echoes_filtered: float = 0.0
    """Share of the hosts that answer no echo."""
    max_tasks: int = 0
    """That each host accepts; 0: it does not say."""

    decision_cost: int = DECISION_COST
    """What one decision may cost: with little, services are decided in rounds."""
    updates: bool = False
    """Services say how updates and restarts go; users roll back, stop, restart."""
    checks: bool = False
    """Tasks have health and readiness checks."""
    rollout_drill: bool = False
    restart_drill: bool = False
    pause_drill: bool = False
    containers: bool = False
    """Users also run containers, which keep their writable layers."""
    volumes: bool = False
    """Services have volumes."""
    payloads: bool = False
    """Services use secrets and configs."""
    full_disk_every_s: float = 0.0
    dependencies: bool = False
    """Services depend on others."""
    stacks: bool = False
    """Users apply stacks, roll them back and remove them."""

    def but(self, **changes: Any) -> "Options":
        """The same with these changed."""
        return replace(self, **changes)


def options_of(chance: Chance) -> Options:
    """Draw the settings of one run."""

    def maybe(probability: float, low: float, high: float) -> float:
        value = chance.uniform(low, high)
        return value if chance.hits(probability) else 0.0

    return Options(
        controllers=chance.choice((1, 2, 3, 3)),
        hosts=chance.choice((1, 2, 3, 4, 5)),
        seconds=chance.choice((30, 60, 120)),
        latency_ms=chance.choice((0.3, 1.0, 5.0, 20.0)),
        slow_message=maybe(0.3, 0.001, 0.03),
        loss=maybe(0.3, 0.001, 0.05),
        reply_lost=maybe(0.4, 0.01, 0.15),
        request_every_s=chance.choice((0.5, 1.0, 2.0, 4.0)),
        services_max=chance.choice((2, 4, 8)),
        replicas_max=chance.choice((3, 6, 12)),
        networks=chance.hits(0.6),
        small_subnets=chance.hits(0.2),
        bad_images=chance.hits(0.5),
        reservations=chance.hits(0.5),
        constraints=chance.hits(0.5),
        node_requests=chance.hits(0.5),
        small_transactions=chance.hits(0.3),
        controller_kill_every_s=maybe(0.5, 5, 30),
        controller_stall_every_s=maybe(0.4, 5, 30),
        agent_kill_every_s=maybe(0.5, 3, 20),
        power_loss_every_s=maybe(0.3, 10, 40),
        host_loss_every_s=maybe(0.2, 20, 60),
        cut_every_s=maybe(0.5, 5, 30),
        clog_every_s=maybe(0.3, 5, 30),
        etcd_restart_every_s=maybe(0.3, 10, 40),
        compact_every_s=maybe(0.3, 3, 20),
        container_death_every_s=maybe(0.5, 2, 15),
        clock_skew_s=maybe(0.3, 0.05, 20.0),
        history_limit=chance.choice((5, 5, 1, 0, 2)),
        ports=chance.hits(0.5),
        controller_loss=chance.hits(0.15),
        host_drill=chance.hits(0.4),
        leader_drill=chance.hits(0.4),
        days=chance.hits(0.3),
        encryption=chance.hits(0.5),
        hostile=chance.hits(0.2),
        agent_stall_every_s=maybe(0.4, 3, 20),
        echoes_filtered=maybe(0.2, 0.2, 1.0),
        max_tasks=chance.choice((0, 0, 0, 4, 10)),
        decision_cost=chance.choice((DECISION_COST, DECISION_COST, DECISION_COST, PLACING_COST)),
        **_rollouts(chance),
    )


def _rollouts(chance: Chance) -> dict[str, Any]:
    return {
        "updates": chance.hits(0.6),
        "checks": chance.hits(0.4),
        "rollout_drill": chance.hits(0.4),
        "restart_drill": chance.hits(0.3),
        "pause_drill": chance.hits(0.3),
        "containers": chance.hits(0.5),
        "volumes": chance.hits(0.4),
        "payloads": chance.hits(0.4),
        "full_disk_every_s": chance.uniform(5, 30) if chance.hits(0.3) else 0.0,
        "dependencies": chance.hits(0.4),
        "stacks": chance.hits(0.3),
    }
