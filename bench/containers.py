"""Many containers at once on a playground, compared with the floor and with Docker Swarm.

Floor and playground are measured in turns; each figure is the median. Processor time is that of the
hosts' cgroup: agents, controller, etcd, monitors and containers.
"""

import time
from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

from bench import floor
from bench.fleet import playground, service
from bench.report import Figure
from bench.system import System

# Docker Engine 20.10 in Swarm mode, three nodes on a machine of two processors.
SWARM_RATE = 50 / 12.8
SWARM_REMOVE_100_S = 14.6


def measure(quick: bool) -> Iterable[Figure]:
    """Creating and removing services of many replicas."""
    rounds, replicas = (1, 6) if quick else (5, 50)
    with playground() as fleet:
        floor.run(fleet.rootfs, replicas)  # fills the page cache for both
        fleet.remove(fleet.create(service("warm", replicas)))
        pairs = [
            (floor.run(fleet.rootfs, replicas), create(fleet, replicas)) for _ in range(rounds)
        ]
        removed_s = median(remove_s(fleet, 2 * replicas) for _ in range(1 if quick else 3))
    rate = median(made for _, (made, _) in pairs)
    floors = [bare for bare, _ in pairs]
    name = f"create {replicas} on an overlay"
    yield Figure(name, rate, "/s", 8 * SWARM_RATE, at_least=True, against="8 x Swarm")
    yield Figure(
        f"{name} over the floor",
        median(made / bare.rate for bare, (made, _) in pairs),
        "x",
        0.6,
        at_least=True,
        note=f"floor: {median(f.rate for f in floors):.0f}/s, {floors[0].width} at once",
    )
    yield Figure(
        "processor time per container over the floor's",
        median(cost / bare.cpu_s for bare, (_, cost) in pairs),
        "x",
        1.6,
        note=f"{1e3 * median(cost for _, (_, cost) in pairs):.1f} ms,"
        f" floor {1e3 * median(f.cpu_s for f in floors):.1f} ms",
    )
    yield Figure(
        f"remove {2 * replicas}", removed_s, "s", SWARM_REMOVE_100_S / 8, against="Swarm / 8"
    )


class Created(NamedTuple):
    """The cost of creating a service."""

    rate: float
    """Containers per second, from the request until all run."""
    cpu_s: float
    """Processor seconds per container."""


def create(system: System, replicas: int) -> Created:
    """Create a service of that many replicas, and remove it."""
    used, began = system.cpu_seconds(), time.monotonic()
    created = system.create(service("many", replicas))
    took, cost = time.monotonic() - began, system.cpu_seconds() - used
    system.remove(created)
    return Created(replicas / took, cost / replicas)


def remove_s(system: System, replicas: int) -> float:
    """Seconds until a service of that many replicas is removed from every host."""
    created = system.create(service("many", replicas))
    began = time.monotonic()
    system.remove(created)
    return time.monotonic() - began
