"""Whether this host can start containers at all. PURE.

It cannot if it has no room for one, or if as many starts in a row as REFUSALS_MAX failed for a
reason of the host's. Then it says so and gets no new tasks. Room that comes back clears that at
once; after failed starts it tries again when RETRY is over. A start that succeeds clears either.
"""

import errno
import re

import msgspec
from msgspec.structs import replace

from agent.network.base import NetworkFailed
from pyswarm_core.clock import SECOND, Instant, after

REFUSALS_MAX = 3
RETRY = 30 * SECOND
_REASON_MAX = 256

_CHILDS = {
    errno.ENOSPC: "no space left on device",  # also: too many mounts
    errno.EDQUOT: "disk quota exceeded",  # also: too many keyrings
    errno.ENFILE: "too many open files in system",
    errno.EIO: "input/output error",
}
"""What every container would meet, and how a child process says it."""
_OWN = {
    **_CHILDS,
    errno.EMFILE: "too many open files",
    errno.EROFS: "read-only file system",
}
_OWN_NUMBERS = {*_OWN, errno.EAGAIN, errno.ENOMEM, errno.EUSERS}
"""What the agent's own calls meet for want of something. A child process also meets the others for
a container's own limits or its read-only root.
"""
_OWN_WORDS = re.compile("|".join(_OWN.values()), re.IGNORECASE)
# At the end: what comes before may be a path, and so anything.
_CHILDS_WORDS = re.compile(f": (?:{'|'.join(_CHILDS.values())})$", re.IGNORECASE)


class Fitness(msgspec.Struct, frozen=True):
    """What is known of it. `unable` is why it cannot start containers; empty: it can."""

    shortage: str = ""
    refusal: str = ""
    refusals: int = 0
    retry_at: Instant = Instant(0)

    @property
    def unable(self) -> str:
        """One line for people, of bounded length."""
        return self.shortage or self.refusal


def is_of_host(error: OSError | NetworkFailed) -> bool:
    """Whether a call of the agent's own failed because something of the host ran out."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _OWN_NUMBERS
    return bool(_OWN_WORDS.search(str(error)))


def says_host(words: str) -> bool:
    """Whether a child process says that something of the host ran out."""
    return bool(_CHILDS_WORDS.search(words))


def looked(fitness: Fitness, shortage: str, now: Instant) -> Fitness:
    """After a look at the room there is; an empty `shortage` is enough of it."""
    if fitness.refusal and now >= fitness.retry_at:
        fitness = Fitness()
    return replace(fitness, shortage=shortage[:_REASON_MAX])


def started(fitness: Fitness) -> Fitness:
    """After a container was made."""
    return Fitness() if fitness.refusals else fitness


def refused(fitness: Fitness, reason: str, now: Instant) -> Fitness:
    """After a container could not be made for a reason of the host's."""
    count = fitness.refusals + 1
    if count < REFUSALS_MAX:
        return replace(fitness, refusals=count)
    refusal = reason[:_REASON_MAX]
    return replace(fitness, refusals=count, refusal=refusal, retry_at=after(now, RETRY))
