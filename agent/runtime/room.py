"""Whether the file systems of a runtime have space for one more container. SHELL over statvfs(2).

The errors of conmon and crun often hide that a disk is full: conmon closes its stderr early, and
crun reports a missing file where it could not make one. So this is checked after a failure.
"""

import errno
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pyswarm_core.aio.trees import remove_tree
from pyswarm_core.docker.units import decimal_size
from pyswarm_core.errors import reason_of

INODES_NEEDED = 32
"""A container uses about 20 in the run directory and 10 in the state directory."""
BYTES_NEEDED = 256 * 1024
"""A container's config.json, its copies for crun and the compiled filter use half of it."""


def shortage(directories: Iterable[Path]) -> str:
    """The error of making a container below these directories; empty if there is space."""
    for directory in directories:
        try:
            if found := _too_little(directory):
                return found
            _try(directory)
        except OSError as error:
            return reason_of(error, str(directory))
    return ""


def _too_little(directory: Path) -> str:
    left = os.statvfs(directory)
    room = left.f_bavail * left.f_frsize
    full = f"{os.strerror(errno.ENOSPC).lower()}: {directory}"
    if left.f_files and left.f_favail < INODES_NEEDED:  # some file systems do not count inodes
        return f"{full} ({left.f_favail} of {left.f_files} inodes are free)"
    if room < BYTES_NEEDED:
        of = decimal_size(left.f_blocks * left.f_frsize)
        return f"{full} ({decimal_size(room)} of {of} are free)"
    return ""


def _try(directory: Path) -> None:
    """Write a file below the directory and remove it: only that detects a quota or a read-only
    mount.
    """
    made = Path(tempfile.mkdtemp(prefix=".probe", dir=directory))
    try:
        (made / "file").write_bytes(bytes(4096))
    finally:
        with suppress(OSError):
            remove_tree(made)
