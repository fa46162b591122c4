"""Both systems: the time of a rolling update with default settings.

Both replace one replica at a time, and the update ends once all new ones run.
"""

from collections.abc import Iterable

from bench.deploys import update_s
from bench.fleet import service
from bench.peer.swarm import both
from bench.report import Figure, faster
from bench.system import System


def measure(quick: bool) -> Iterable[Figure]:
    """An update of ten replicas."""
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
