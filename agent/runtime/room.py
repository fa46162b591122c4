"""Whether the file systems below a runtime have room for one more container. SHELL over statvfs(2).

What ran out is often lost on the way: conmon silences itself before it is through, and crun speaks
of a file that is not there where it could not be made. So whoever fails looks here.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from pyswarm_core.docker.units import decimal_size
from pyswarm_core.errors import reason_of

INODES_NEEDED = 32
"""A container takes about 20 of the run directory and 10 of the state directory."""
BYTES_NEEDED = 256 * 1024
"""A container's config.json, its copies for crun and the compiled filter take half of it."""


def shortage(directories: Iterable[Path]) -> str:
    """What keeps a container from being made below these directories; empty if nothing does."""
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
    if left.f_files and left.f_favail < INODES_NEEDED:  # some file systems count none
        return f"{full} ({left.f_favail} of {left.f_files} inodes are free)"
    if room < BYTES_NEEDED:
        of = decimal_size(left.f_blocks * left.f_frsize)
        return f"{full} ({decimal_size(room)} of {of} are free)"
    return ""


def _try(directory: Path) -> None:
    """Write below the directory and undo it: a quota or a read-only mount shows only so."""
    made = tempfile.mkdtemp(prefix=".probe", dir=directory)
    try:
        Path(made, "file").write_bytes(bytes(4096))
    finally:
        shutil.rmtree(made, ignore_errors=True)
