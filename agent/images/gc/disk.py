"""How full the disk of the images is. SHELL over statvfs(2)."""

import os
from pathlib import Path

from agent.images.gc.plan import Disk


def measured(folder: Path) -> Disk:
    """The use of the disk as kubelet counts it: what is not available counts as used."""
    found = os.statvfs(folder)
    return Disk(_used(found.f_bavail, found.f_blocks), _used(found.f_favail, found.f_files))


def space(folder: Path) -> tuple[int, int]:
    """Its bytes, and how many of them are available."""
    found = os.statvfs(folder)
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


def _used(free: int, total: int) -> int:
    return 100 - free * 100 // total if total else 0
