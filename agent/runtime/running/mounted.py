"""The volumes of a container that does not run, mounted over its kept layer for one copy. SHELL
over mount(2) and open_tree(2).

What cannot be mounted then is shown as an empty directory that nobody writes to, so that no copy
lands below a mount where the container would not see it: directories of the host, which may hang;
paths in volumes, and images, which are resolved at each start; volumes that are elsewhere by now,
or have file systems of their own.
"""

import ctypes
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from agent.runtime import mounts
from agent.runtime.program.beneath import Root

_LIBC = ctypes.CDLL(None, use_errno=True)
_OPEN_TREE = 428
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_CLONE = 1


class Mounted(msgspec.Struct, frozen=True):
    """A mount of a container's config.json."""

    destination: str
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()

    @property
    def read_only(self) -> bool:
        """Whether the container cannot write there."""
        return "ro" in self.options


def mount_all(
    wanted: Iterable[Mounted], target: Path, volumes: Iterable[Path], absent: Path
) -> None:
    """Mount over `target` what lies in one of the directories `volumes`, parents first; of others
    `absent`, an empty directory. Raises OSError.
    """
    for mount in sorted(wanted, key=lambda one: one.destination.count("/")):
        if mount.type != "bind":
            continue
        with suppress(FileNotFoundError, NotADirectoryError):  # the image has it no more
            is_directory = stat.S_ISDIR(Root(target).stat(mount.destination).st_mode)
            if not is_directory:
                continue  # /etc/hosts, and files of the host
            is_volume = any(Path(mount.source).is_relative_to(one) for one in volumes)
            is_there = is_volume and _is_directory(Path(mount.source))
            _mount(mount, Path(mount.source) if is_there else absent, target, here=is_there)


def _is_directory(source: Path) -> bool:
    """Whether the volume is a directory, and not of a file system of its own, which need not be
    mounted now.
    """
    of_its_own = (source.with_name("image"), source.with_name("foreign"))
    return source.is_dir() and not any(path.exists() for path in of_its_own)


def _mount(mount: Mounted, source: Path, target: Path, *, here: bool) -> None:
    with Root(target).opened(mount.destination) as place:
        mounts.bind(str(source), Path(f"/proc/self/fd/{place}"))
    if mount.read_only or not here:
        with Root(target).opened(mount.destination) as place:
            mounts.make_read_only(Path(f"/proc/self/fd/{place}"))


def tree(target: Path) -> int:
    """A descriptor of what is mounted at the path and below it, which lasts when it is unmounted.
    Raises OSError.
    """
    mounts.make_private(target)  # otherwise it would be unmounted in the copy too
    flags = _CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    descriptor: int = _LIBC.syscall(_OPEN_TREE, _AT_FDCWD, os.fsencode(target), flags)
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))
    return descriptor
