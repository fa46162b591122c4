"""Editing a small file that is mounted in a running container, in place. SHELL.

The mount is of the inode, so a new file would not be seen. The container can write anything to it,
but not replace it: to rename or unlink a mount point is EBUSY, its directory on the host is not
mounted, and unmounting (CAP_SYS_ADMIN) shows a file of its own root file system. It can hold a
lease on it, which would delay an open by 45 s: O_NONBLOCK refuses instead.

A process that is killed between two calls leaves a complete file: the new content, followed by
newlines where the former was longer, is written with one call, and the newlines are cut off with a
second. Blank lines have no meaning in /etc/hosts and /etc/resolv.conf. A call that is killed itself
may end at a page (4 KiB); a restarted agent repeats the edit.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from pyswarm_core.aio.logs import EventLog

_log = EventLog("agent.runtime")

EDITED_MAX = 1024 * 1024
"""The largest file that is edited; Docker's own have some hundred bytes."""


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Replace the file's content by `change` of it. A file larger than EDITED_MAX stays as it is.
    Raises OSError.
    """
    file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(f"{path.name} of the container is no regular file")
        before = os.pread(file, EDITED_MAX + 1, 0)
        if len(before) > EDITED_MAX:
            _log.warning("file.too_large_to_edit", path=path, max_bytes=EDITED_MAX)
            return
        after = change(before)
        if after == before:
            return
        _write(file, after.ljust(len(before), b"\n"))
        os.ftruncate(file, len(after))
    finally:
        os.close(file)


def _write(file: int, content: bytes) -> None:
    """One call, unless the file system is full: the next call then raises OSError."""
    written = 0
    while written < len(content):
        written += os.pwrite(file, content[written:], written)
