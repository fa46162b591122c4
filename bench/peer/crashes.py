"""Both systems: the time without a replica whose process was killed."""

from collections.abc import Iterable
from statistics import median

from bench.failover import crash_s
from bench.peer.swarm import both
from bench.report import Figure, faster
from pyswarm_core.clock import SECOND, seconds


def measure(quick: bool) -> Iterable[Figure]:
    """With two restart delays."""
    with both() as (ours, theirs):
        for delay in (0, SECOND):
            our_s, their_s = (
                median(crash_s(system, delay) for _ in range(1 if quick else 3))
                for system in (ours, theirs)
            )
            name = f"SIGKILLed task replaced, delay {seconds(delay):g} s"
            yield faster(name, our_s, their_s, "s", 1)
