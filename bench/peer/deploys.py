"""Both systems: failed requests while every replica is replaced, with the same image and wrk.

Both use their default update settings: Swarm replaces one replica at a time.
"""

from collections.abc import Iterable

from bench import deploys
from bench.peer.swarm import both
from bench.report import Figure


def measure(quick: bool) -> Iterable[Figure]:
    """pyswarm, then Swarm if the kernel supports its published ports."""
    replicas, rounds = (2, 1) if quick else (10, 3)
    with both() as (ours, theirs), deploys.web() as context:
        ours.load(deploys.IMAGE, context)
        figure = deploys.figure("", deploys.deploy(ours, replicas, rounds), replicas, rounds)
        if not theirs.publishes:
            unable = "Docker Swarm cannot publish ports on this kernel, which has no ip_vs"
            yield figure._replace(note=f"{figure.note}; {unable}")
            return
        yield figure
        theirs.load(deploys.IMAGE, ours)
        done = deploys.deploy(theirs, replicas, rounds)
        yield deploys.figure(", Docker Swarm", done, replicas, rounds)
