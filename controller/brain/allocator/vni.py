"""Which VNI a network gets. PURE.

VNIs are allocated in turn, so that a number is not used again soon after its network was removed: a
host that was disconnected might still send frames with it.
"""

from collections.abc import Collection

from pyswarm_core.errors import Conflict
from pyswarm_core.limits import VNI_MAX, VNI_MIN


def allocate_vni(next_vni: int, used: Collection[int]) -> tuple[int, int]:
    """(VNI, what `next_vni` is from now on); wraps at 24 bits. Raises Conflict if all are used."""
    size = VNI_MAX - VNI_MIN + 1
    start = next_vni if VNI_MIN <= next_vni <= VNI_MAX else VNI_MIN
    for step in range(min(len(used) + 1, size)):
        vni = VNI_MIN + (start - VNI_MIN + step) % size
        if vni not in used:
            return vni, VNI_MIN + (vni - VNI_MIN + 1) % size
    raise Conflict(f"all {size} VNIs are in use; remove a network")
