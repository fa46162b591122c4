"""Docker's sum of memory and swap. PURE."""

from pyswarm_core.errors import unfit

NO_SWAP = 1
"""Bytes of swap of a container without any: the kernel rounds a limit down to a page, and 0 means
Docker's default in a spec.
"""


def swap_beyond(both: int, memory: int) -> int:
    """The swap alone, of the sum of memory and swap; -1 is unlimited, 0 the default. Raises
    InvalidArgument.
    """
    if both <= 0:
        return both
    if not memory:
        raise unfit("expected --memory as well")
    if both < memory:
        raise unfit("expected at least the value of --memory")
    return both - memory or NO_SWAP
