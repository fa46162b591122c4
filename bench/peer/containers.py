"""Both systems: many containers created on an overlay network, and removed completely."""

from collections.abc import Iterable
from statistics import median

from bench.containers import create, remove_s
from bench.peer.swarm import both
from bench.report import Figure, ahead, faster


def measure(quick: bool) -> Iterable[Figure]:
    """In turns; the removal of a hundred is last."""
    rounds, replicas = (1, 6) if quick else (3, 50)
    with both() as (ours, theirs):
        for system in (ours, theirs):
            create(system, 6)
        pairs = [(create(ours, replicas), create(theirs, replicas)) for _ in range(rounds)]
        name = f"create {replicas} on an overlay"
        yield ahead(
            name,
            median(our.rate for our, _ in pairs),
            median(their.rate for _, their in pairs),
            "/s",
            8,
        )
        yield faster(
            "processor time per container",
            median(1e3 * our.cpu_s for our, _ in pairs),
            median(1e3 * their.cpu_s for _, their in pairs),
            "ms",
            1,
        )
        many = 2 * replicas
        yield faster(f"remove {many}", remove_s(ours, many), remove_s(theirs, many), "s", 8)
