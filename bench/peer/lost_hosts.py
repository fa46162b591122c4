"""Both systems: the time without replicas whose host lost its network or its power."""

from collections.abc import Iterable

from bench.failover import lose_s
from bench.peer.swarm import both
from bench.report import Figure, faster


def measure(quick: bool) -> Iterable[Figure]:
    """One host of three."""
    with both() as (ours, theirs):
        for verb in ("cut", "kill"):
            our_s, their_s = (lose_s(s, verb, 6 if quick else 30) for s in (ours, theirs))
            yield faster(f"lost host ({verb}): replicas run elsewhere", our_s, their_s, "s", 1)
