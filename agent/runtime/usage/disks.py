"""Has cgroup v1 count the bytes and operations of disks. SHELL over cgroupfs.

Newer kernels set up v1's accounting of a disk with the first throttling rule for it, in any cgroup,
and count from then on for all, also without a rule (tried with Linux 6.18). cgroup v2 always
counts.
"""

from contextlib import suppress
from pathlib import Path

from agent.runtime.cgroups import Hierarchies

_RULE = "blkio.throttle.read_bps_device"
_NO_LIMIT = 1 << 40
"""Bytes per second: more than any disk reads in the moment that the rule exists."""


def count_disks(
    hierarchies: Hierarchies, cgroup: str, blocks: Path = Path("/sys/block")
) -> tuple[str, ...]:
    """Write a rule for each disk in this cgroup, and remove it; return the disks that accept one.
    On cgroup v2 nothing is done.
    """
    root = hierarchies.v1.get("blkio")
    if root is None:
        return ()
    directory = Path(root + cgroup)
    directory.mkdir(parents=True, exist_ok=True)
    found = []
    for block in sorted(blocks.iterdir()):
        # A disk may go away meanwhile, and a loop device without a file has no size.
        with suppress(OSError):
            if (block / "size").read_text().strip() != "0":
                device = (block / "dev").read_text().strip()
                for limit in (_NO_LIMIT, 0):
                    (directory / _RULE).write_text(f"{device} {limit}")
                found.append(block.name)
    return tuple(found)
