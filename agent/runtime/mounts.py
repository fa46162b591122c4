"""Root file systems: one overlay mount over a container's image layers. SHELL over mount(2).

Invariant: an overlay's upper and work directories are used by one container at a time, and by no
other after it unless the layer is kept. So the mount is `volatile` where the kernel supports it,
and unmounting never waits for a disk; that of a kept layer is not.
"""

import ctypes
import errno
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pyswarm_core.aio.trees import remove_tree

_LIBC = ctypes.CDLL(None, use_errno=True)
_MNT_DETACH = 2
_MS_RDONLY = 1
_MS_REMOUNT = 32
_MS_BIND = 4096
_MS_REC = 16384
_MS_PRIVATE = 1 << 18

# The kernel accepts one page of mount options, including the final NUL.
_OPTIONS_MAX = 4095
_UNUSED_S = 5.0
_UNUSED_PERIOD_S = 0.02


def mount_overlay(
    layers: Sequence[str], writable: Path, rootfs: Path, *, volatile: bool = True
) -> None:
    """Mount `layers` (uppermost first) at `rootfs`, with `writable/upper` and `writable/work`.

    Raises OSError naming what was refused.
    """
    # The kernel refuses what a volatile mount left, since the host may have lost power meanwhile.
    remove_tree(writable / "work" / "work" / "incompat")
    with _short_options(layers, writable) as options:
        target = os.fsencode(rootfs)
        # A kernel before 5.10 does not know `volatile`.
        number = _mount(target, options + b",volatile") if volatile else errno.EINVAL
        if number == errno.EINVAL:
            number = _mount(target, options)
    if number:
        missing = [layer for layer in layers if not Path(layer).is_dir()]
        what = f"image layer {missing[0]} is missing" if missing else f"cannot mount {rootfs}"
        raise OSError(number, f"{what}: {os.strerror(number)}")


def view(layers: Sequence[str], target: Path) -> None:
    """Mount `layers` (uppermost first) at `target`, read-only. Raises OSError."""
    with ExitStack() as opened:
        paths = []
        for layer in layers:
            descriptor = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, descriptor)
            paths.append(f"/proc/self/fd/{descriptor}")
        if number := _mount(os.fsencode(target), f"lowerdir={':'.join(paths)}".encode()):
            raise OSError(number, f"cannot mount {target}: {os.strerror(number)}")


def bind(source: str, target: Path) -> None:
    """Mount a file or directory at another path, without the mounts below it. Raises OSError."""
    if _LIBC.mount(os.fsencode(source), os.fsencode(target), None, _MS_BIND, None):
        number = ctypes.get_errno()
        raise OSError(number, f"cannot mount {target}: {os.strerror(number)}")


def make_private(target: Path) -> None:
    """Keep what is mounted at the path, and below it, from changing with its copies. Raises
    OSError.
    """
    if _LIBC.mount(None, os.fsencode(target), None, _MS_PRIVATE | _MS_REC, None):
        number = ctypes.get_errno()
        raise OSError(number, f"cannot make {target} private: {os.strerror(number)}")


def make_read_only(target: Path) -> None:
    """Let nobody write to what is mounted at the path. Raises OSError."""
    flags = _MS_BIND | _MS_REMOUNT | _MS_RDONLY
    if _LIBC.mount(None, os.fsencode(target), None, flags, None):
        number = ctypes.get_errno()
        raise OSError(number, f"cannot mount {target} read-only: {os.strerror(number)}")


def _mount(target: bytes, options: bytes) -> int:
    """Mount an overlay; return the error number, 0 if it worked."""
    refused: int = _LIBC.mount(b"overlay", target, b"overlay", 0, options)
    return ctypes.get_errno() if refused else 0


@contextmanager
def _short_options(layers: Sequence[str], writable: Path) -> Iterator[bytes]:
    """The mount options; paths that do not fit or need quoting are passed as open directories."""
    upper, work = writable / "upper", writable / "work"
    lower = ":".join(layers)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    room = _OPTIONS_MAX - len(b",volatile")
    quoted = any(mark in options.replace(lower, "") for mark in "\\:") or any(
        mark in layer for layer in layers for mark in ",:\\"
    )
    if len(options.encode()) <= room and not quoted:
        yield options.encode()
        return
    with ExitStack() as opened:
        paths = []
        for directory in (*layers, str(upper), str(work)):
            descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, descriptor)
            paths.append(f"/proc/self/fd/{descriptor}")
        short = f"lowerdir={':'.join(paths[:-2])},upperdir={paths[-2]},workdir={paths[-1]}"
        if len(short) > room:
            raise OSError(errno.E2BIG, f"{len(layers)} image layers are more than one mount takes")
        yield short.encode()


def unmount(target: Path) -> None:
    """Unmount everything at `target`, even if busy; no mount there is no error."""
    while not _LIBC.umount2(os.fsencode(target), _MNT_DETACH):
        continue
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOENT):
        raise OSError(number, f"unmount {target}: {os.strerror(number)}")


def unmount_unused(target: Path) -> None:
    """Unmount what is at `target` once nothing uses it; no mount there is no error.

    Raises OSError if it is in use for longer than _UNUSED_S.
    """
    until = time.monotonic() + _UNUSED_S
    while True:
        if not _LIBC.umount2(os.fsencode(target), 0):
            continue
        number = ctypes.get_errno()
        if number in (errno.EINVAL, errno.ENOENT):
            return
        if number != errno.EBUSY or time.monotonic() > until:
            raise OSError(number, f"unmount {target}: {os.strerror(number)}")
        time.sleep(_UNUSED_PERIOD_S)


def read_from_layers(layers: Sequence[str], path: str, limit: int = 1 << 20) -> bytes | None:
    """The content of the file `path` (relative, like `etc/passwd`) of an unmounted image.

    None unless it is a plain file of at most `limit` bytes. Symbolic links are not followed: they
    could lead out of the image.
    """
    parts = Path(path).parts
    for layer in layers:
        found, is_last = _lookup(layer, parts)
        if found is not None:
            with found.open("rb") as opened:
                content = opened.read(limit + 1)
            return content if len(content) <= limit else None
        if is_last:
            return None
    return None


def _lookup(layer: str, parts: tuple[str, ...]) -> tuple[Path | None, bool]:
    """The plain file, if the layer has it, and whether the layer hides the path in lower layers.

    A whiteout, link or directory at that path hides it too.
    """
    walked = Path(layer)
    hidden = False
    for position, part in enumerate(parts):
        walked = walked / part
        try:
            mode = walked.lstat().st_mode
        except FileNotFoundError:
            return None, hidden
        if position == len(parts) - 1:
            return (walked if stat.S_ISREG(mode) else None), True
        if not stat.S_ISDIR(mode):
            return None, True
        hidden = hidden or _is_opaque(walked)
    return None, hidden


def _is_opaque(directory: Path) -> bool:
    try:
        return os.getxattr(directory, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False
