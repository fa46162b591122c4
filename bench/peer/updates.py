"""How long a rolling update takes both, when nothing is said of its pace.

Both replace one replica at a time, and the update is over once all are new and run.
"""

from collections.abc import Iterable

from bench.deploys import update_s
from bench.fleet import service
from bench.peer.swarm import both
from bench.report import Figure, faster
from bench.system import System


def measure(quick: bool) -> Iterable[Figure]:
    """One update of ten replicas each."""
    replicas = 2 if quick else 10
    with both() as (ours, theirs):
        our_s, their_s = (_update_s(system, replicas) for system in (ours, theirs))
        yield faster(f"update {replicas} replicas", our_s, their_s, "s", 1)


def _update_s(system: System, replicas: int) -> float:
    spec = service("change", replicas)
    created = system.create(spec)
    took = update_s(system, created, spec, 1)
    system.remove(created)
    return took
