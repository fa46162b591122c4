"""Directories of this host that show an image, or a path in a volume, for as long as a container is
made. SHELL over mount(2).

The OCI runtime mounts its sources by their paths. Those of this module lie where root alone can
change anything: what they show was resolved before, and no link leads elsewhere meanwhile
(CVE-2017-1002101 and CVE-2021-25741 of Kubernetes). A descriptor's path in /proc does not do: its
mount is of the agent's namespace, which the runtime has left. The container's own mounts last.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from agent.runtime import mounts
from agent.runtime.program.beneath import open_in

_VIEWS = "view-of-"
_PASSABLE = 0o711
"""Root of a user namespace passes through to what it mounts."""


@contextmanager
def viewed(layers: Sequence[str], run: Path) -> Iterator[Path]:
    """A directory below `run` that shows an image's files, read-only."""
    with _scratch(run) as scratch:
        for name in ("empty", "view"):
            (scratch / name).mkdir(mode=_PASSABLE)
        # The kernel mounts no overlay of one layer alone.
        mounts.view((*layers, str(scratch / "empty")), scratch / "view")
        yield scratch / "view"


@contextmanager
def bound(root: Path, path: str, run: Path) -> Iterator[Path]:
    """A file or directory below `run` that shows the path beneath a root. Raises OSError."""
    descriptor = open_in(root, path)
    try:
        with _scratch(run) as scratch:
            target = scratch / "view"
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                target.mkdir()
            else:
                target.touch()
            mounts.bind(f"/proc/self/fd/{descriptor}", target)
            yield target
    finally:
        os.close(descriptor)


def clear(run: Path) -> None:
    """Remove what an agent left that was killed."""
    for scratch in run.glob(f"{_VIEWS}*"):
        _remove(scratch)


@contextmanager
def _scratch(run: Path) -> Iterator[Path]:
    scratch = run / f"{_VIEWS}{token_hex(8)}"
    scratch.mkdir(mode=_PASSABLE)
    try:
        yield scratch
    finally:
        _remove(scratch)


def _remove(scratch: Path) -> None:
    mounts.unmount(scratch / "view")
    for name in ("view", "empty"):
        with suppress(FileNotFoundError):
            path = scratch / name
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()
    with suppress(FileNotFoundError):
        scratch.rmdir()
