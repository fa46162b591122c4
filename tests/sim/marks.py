"""Rare branches that were reached: a suite that never met a fault proves nothing about it."""

from collections import Counter

REQUIRED = (
    "reply lost",
    "store request arrived after its client gave up",
    "lease expired",
    "deposed leader's commit refused",
    "leader killed between commit and reply",
    "agent killed while preparing",
    "agent killed",
    "node declared down",
    "node lost and returned",
    "host lost power",
    "host lost for good",
    "controller lost for good",
    "block released",
    "drill: a host died",
    "drill: a leader died",
    "drill: a day passed over a lost host",
    "drill: a day passed over keys",
    "update interrupted by a leader change",
    "task failed and was replaced",
    "service decided in a round",
    "task was killed for ignoring its stop signal",
    "node drained",
    "history compacted",
    "task had to wait for a node",
    "service removed",
    "user created",
    "user removed",
    "two controllers believed they led",
    "stop waited until nobody sends connections to it",
    "stop waited as long as it may",
    "agent stalled",
    "disk of images full",
    "silent agent's host answered probes",
    "node paused",
    "drill: a node was paused",
    "service started",
    "container removed itself",
    "container renamed",
    "container joined a network",
    "container left a network",
    "layer deleted",
    "task found the data of another",
    "volume deleted",
    "version created",
    "version removed",
    "task ran with a secret or config",
    "file replaced in a running container",
    "volume copied",
    "copy given up",
    "volume restored",
    "volume leaves a drained node",
    "task stopped by its users",
    "task waited for a dependency",
    "service released",
    "service followed a dependency",
    "stack applied",
    "stack rolled back",
    "stack removed",
    "stack completed by another leader",
    "a task left the backends before its agent stopped it",
)
"""Over all seeds of a test run, each of these must be reached at least once."""


class Marks:
    """What one run reached."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def hit(self, name: str) -> None:
        """Note that it happened."""
        self.counts[name] += 1
