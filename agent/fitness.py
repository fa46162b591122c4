"""Whether this host can start containers. PURE.

It cannot if it has no space for one, or if FAILURES_MAX starts in a row failed because of the host.
Then it reports so and gets no new tasks. Free space clears that at once; after failed starts it
tries again after RETRY. A successful start clears either.
"""

import errno
import re

import msgspec
from msgspec.structs import replace

from agent.network.base import NetworkFailed
from pyswarm_core.clock import SECOND, Instant, after

FAILURES_MAX = 3
RETRY = 30 * SECOND
_REASON_MAX = 256

_CHILDS = {
    errno.ENOSPC: "no space left on device",  # also: too many mounts
    errno.EDQUOT: "disk quota exceeded",  # also: too many keyrings
    errno.ENFILE: "too many open files in system",
    errno.EIO: "input/output error",
}
"""Errors that every container would get, with the text of child processes."""
_OWN = {
    **_CHILDS,
    errno.EMFILE: "too many open files",
    errno.EROFS: "read-only file system",
}
_OWN_NUMBERS = {*_OWN, errno.EAGAIN, errno.ENOMEM, errno.ENOBUFS, errno.EUSERS}
"""Errors of the agent's own calls for lack of a resource. A child process may also get the others
because of a container's own limits or its read-only root.
"""
_OWN_WORDS = re.compile("|".join(_OWN.values()), re.IGNORECASE)
# Matched at the end: the text before may be a path, and so of any words.
_CHILDS_WORDS = re.compile(f": (?:{'|'.join(_CHILDS.values())})$", re.IGNORECASE)


class Fitness(msgspec.Struct, frozen=True):
    """Whether it can start containers: `unable` is the reason why not, or empty."""

    shortage: str = ""
    failure: str = ""
    failures: int = 0
    retry_at: Instant = Instant(0)

    @property
    def unable(self) -> str:
        """One line for users, of bounded length."""
        return self.shortage or self.failure


def is_host_error(error: OSError | NetworkFailed) -> bool:
    """Whether a call of the agent failed because a resource of the host is used up."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _OWN_NUMBERS
    return bool(_OWN_WORDS.search(str(error)))


def is_host_message(words: str) -> bool:
    """Whether a child process reports that a resource of the host is used up."""
    return bool(_CHILDS_WORDS.search(words))


def after_check(fitness: Fitness, shortage: str, now: Instant) -> Fitness:
    """The fitness after a check of free space; an empty `shortage` means enough."""
    if fitness.failure and now >= fitness.retry_at:
        fitness = Fitness()
    return replace(fitness, shortage=shortage[:_REASON_MAX])


def after_start(fitness: Fitness) -> Fitness:
    """The fitness after a container was made."""
    return Fitness() if fitness.failures else fitness


def after_failure(fitness: Fitness, reason: str, now: Instant) -> Fitness:
    """The fitness after a container could not be made because of the host."""
    count = fitness.failures + 1
    if count < FAILURES_MAX:
        return replace(fitness, failures=count)
    failure = reason[:_REASON_MAX]
    return replace(fitness, failures=count, failure=failure, retry_at=after(now, RETRY))
