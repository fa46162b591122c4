"""Both systems: the time of a rolling update with equal settings, both draining.

Two of twenty replicas at a time, stop-first, without a delay; the update ends once all new ones
run. Before a task's stop signal pyswarm waits until no host sends connections to it, Swarm for the
two seconds that its engine allows the other hosts.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from bench.deploys import update_s
from bench.fleet import service
from bench.peer.swarm import both
from bench.report import Figure, faster
from bench.system import System
from pyswarm_core.specs import UpdateConfig

_CONFIG = UpdateConfig(parallelism=2)


def measure(quick: bool) -> Iterable[Figure]:
    """An update of twenty replicas."""
    replicas = 4 if quick else 20
    with both() as (ours, theirs):
        our_s, their_s = (_update_s(system, replicas) for system in (ours, theirs))
        name = f"update {replicas} replicas, stop-first, parallelism {_CONFIG.parallelism}"
        yield faster(name, our_s, their_s, "s", 5)


def _update_s(system: System, replicas: int) -> float:
    spec = replace(service("change", replicas), update_config=_CONFIG)
    created = system.create(spec)
    took = update_s(system, created, spec, 1)
    system.remove(created)
    return took
