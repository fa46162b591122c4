"""The sources of binds on this host: resolved once, and compared with what was mounted. SHELL over
openat2(2).

The OCI runtime mounts a path, which may lead elsewhere by then: a container that writes a directory
above the source can exchange it. So the source is resolved here, the runtime gets the path without
links, and before the container's program runs the mount is compared with what was resolved.
"""

import errno
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.runtime.base import RuntimeFailed
from agent.runtime.isolation.bound import BoundSource
from agent.runtime.program.beneath import Root, open_beneath, open_plain
from pyswarm_core.errors import reason_of
from pyswarm_core.plaintext import split_lines
from pyswarm_core.volumes.allowed import beneath as is_beneath
from pyswarm_core.volumes.mounts import BindOptions, Mount

_LOOPS = "it leads through a magic link of /proc, or through too many symbolic links"


def source_of(mount: Mount) -> BoundSource:
    """The source of a bind, without links. Raises RuntimeFailed in Docker's words if it does not
    exist, unless it is to be made, and if it leads out of the path that allows it.
    """
    options = mount.bind_options or BindOptions()
    try:
        if options.beneath:
            descriptor = _confined(mount.source, options.beneath, create=options.create_mountpoint)
        else:
            descriptor = _opened(mount.source, create=options.create_mountpoint)
    except FileNotFoundError:
        raise _invalid(f"bind source path does not exist: {mount.source}") from None
    except OSError as error:
        raise _invalid(f"{mount.source}: {_reason(error, options.beneath)}") from error
    try:
        status = os.fstat(descriptor)
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
    finally:
        os.close(descriptor)
    return BoundSource(mount.target, mount.source, path, status.st_dev, status.st_ino)


def expected_over_proc(oci: Mapping[str, Any]) -> frozenset[str]:
    """The paths in /proc that the container's configuration covers: masked ones, and mounts of CDI
    devices. Mounts of users have no such target.
    """
    linux: Mapping[str, Any] = oci.get("linux", {})
    mounted = [each["destination"] for each in oci.get("mounts", ())]
    return frozenset((*linux.get("maskedPaths", ()), *linux.get("readonlyPaths", ()), *mounted)) - {
        "/proc"
    }


def verify(sources: Sequence[BoundSource], pid: int, expected: Collection[str]) -> None:
    """Raise RuntimeFailed if the container with this process shows anything else at a target, or
    has mounts over its /proc but the expected ones: a link of its image or of a volume led one
    there. What the runtime writes to /proc, such as the profile of AppArmor, would be lost.
    """
    covered = [point for point in _mounts_over_proc(pid) if point not in expected]
    if covered and (covered := _not_of_host(covered)):
        raise RuntimeFailed(
            f"a mount covers {covered[0]}: its target leads there by a symbolic link"
        )
    root = Root(Path(f"/proc/{pid}/root"))
    for source in sources:
        try:
            found = root.stat(source.target)
        except OSError as error:
            raise _invalid(f"{source.target} is not mounted: {reason_of(error)}") from error
        if (found.st_dev, found.st_ino) != (source.device, source.inode):
            raise _invalid(
                f"{source.source} was replaced while it was mounted, or another mount hides"
                f" {source.target}"
            )


def _not_of_host(points: list[str]) -> list[str]:
    """Without those that are mounts of this host too, such as binfmt_misc: the container has a copy
    of them where the runtime cannot mount a new /proc.
    """
    own = {*_mounts_over_proc(os.getpid())} - {"/proc"}
    return [point for point in points if point not in own]


def _mounts_over_proc(pid: int) -> Iterator[str]:
    """The places in a process's /proc at which something else is mounted."""
    for line in split_lines(Path(f"/proc/{pid}/mountinfo").read_text(errors="replace")):
        words = line.split(" ")
        point, kind = words[4], words[words.index("-") + 1]
        if point.startswith("/proc/") or (point == "/proc" and kind != "proc"):
            yield point


def _opened(path: str, *, create: bool) -> int:
    with suppress(FileNotFoundError):
        return _resolved(path)
    if not create:
        raise _missing(path)
    Path(path).mkdir(parents=True, exist_ok=True)
    return _resolved(path)


def _resolved(path: str) -> int:
    with Root(Path("/")).opened(path) as descriptor:
        return os.dup(descriptor)


def _confined(path: str, beneath: str, *, create: bool) -> int:
    """A descriptor of the path, which no symbolic link leads out of the allowed one. That has no
    link itself: a container with a bind above it could have placed it.
    """
    if not is_beneath(path, beneath):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    try:
        folder = open_plain(beneath)
    except OSError as error:
        if error.errno == errno.ELOOP:
            told = f"the allowed path {beneath} is or has a symbolic link: allow what it leads to"
            raise _invalid(told) from error
        raise
    try:
        names = path.removesuffix("/").removeprefix(beneath).strip("/").split("/")
        if create:
            _make(folder, names)
        return open_beneath(folder, "/".join(names) or ".")
    finally:
        os.close(folder)


def _make(folder: int, names: Sequence[str]) -> None:
    """Make the directories that are missing, each in one that is beneath the folder."""
    for depth in range(len(names)):
        with suppress(FileNotFoundError):
            os.close(open_beneath(folder, "/".join(names[: depth + 1]) or "."))
            continue
        above = open_beneath(folder, "/".join(names[:depth]) or ".", os.O_PATH | os.O_DIRECTORY)
        try:
            with suppress(FileExistsError):
                os.mkdir(names[depth], dir_fd=above)
        finally:
            os.close(above)


def _missing(path: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def _reason(error: OSError, beneath: str) -> str:
    if error.errno == errno.EXDEV:
        return f"it leads out of the allowed path {beneath} by a symbolic link"
    return _LOOPS if error.errno == errno.ELOOP else reason_of(error)


def _invalid(reason: str) -> RuntimeFailed:
    return RuntimeFailed(f'invalid mount config for type "bind": {reason}')
