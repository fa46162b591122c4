"""Programs that can write to one directory of the host and to nothing else. SHELL over mount(2).

`tar` reads and unpacks volumes as root, and nobody trusts the files or the archive. So it runs in a
mount namespace of its own, whose root is an empty file system with the host's programs, read-only,
and the directory: whatever a name or a link says, the kernel finds nothing else. The namespace, and
with it all mounts, ends with the process.

A thread enters the namespace, starts the program there and ends: only a new thread's root can be
changed without changing that of the agent.
"""

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_LIBC = ctypes.CDLL(None, use_errno=True)
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "armv7l": 218}
_CLONE_FS, _CLONE_NEWNS = 0x200, 0x20000
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND = 1, 2, 4, 8, 0x20, 0x1000
_REC, _PRIVATE = 0x4000, 0x40000
_DETACH = 2
_PROGRAMS = ("usr", "bin", "sbin", "lib", "lib64", "lib32")
"""Where programs and their libraries are; links to one another where the host has them so."""
SHOWN = "/data"
"""Where the program finds the directory."""
_ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}


class Stdio(tuple[int, int, int]):
    """The descriptors that are the program's stdin, stdout and stderr."""

    __slots__ = ()


def start(
    words: Sequence[str], directory: Path, scratch: Path, stdio: Stdio, *, writable: bool
) -> "subprocess.Popen[bytes]":
    """Start a program of /usr/bin or /bin, which sees a directory as SHOWN. `scratch`: an existing
    directory, at which nothing is left. Raises OSError.

    Does not look into the directory: its file system may hang.
    """

    def enter() -> "subprocess.Popen[bytes]":
        _enter(directory, scratch, writable=writable)
        stdin, stdout, stderr = stdio
        return subprocess.Popen(
            words, stdin=stdin, stdout=stdout, stderr=stderr, env=_ENVIRONMENT, umask=0
        )

    return _in_a_thread(enter)


def _in_a_thread(work: Callable[[], T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="jail", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _enter(directory: Path, scratch: Path, *, writable: bool) -> None:
    """Make the directory all that this thread, and what it starts, can see of the host's files."""
    _check(_LIBC.unshare(_CLONE_FS | _CLONE_NEWNS), "unshare")
    _mount("none", "/", "", _REC | _PRIVATE)
    # The directory itself, even if somebody has replaced it by a link.
    opened = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _mount("none", str(scratch), "tmpfs", _NOSUID | _NODEV, "mode=755,size=64k,nr_inodes=64")
        for name in _PROGRAMS:
            _show(Path("/") / name, scratch / name)
        shown = scratch / SHOWN[1:]
        shown.mkdir()
        # Through this thread's own descriptors: those of /proc/self are the main thread's, with
        # another root.
        source = f"/proc/self/task/{threading.get_native_id()}/fd/{opened}"
        _bind(source, shown, _NOSUID | _NODEV | _NOEXEC | (0 if writable else _RDONLY))
    finally:
        os.close(opened)
    _mount("none", str(scratch), "", _REMOUNT | _RDONLY | _NOSUID | _NODEV, "size=64k,nr_inodes=64")
    os.chdir(scratch)
    # As pivot_root(2) shows it: the old root is stacked on the new one, and then taken off.
    _check(_LIBC.syscall(_PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root")
    _check(_LIBC.umount2(b".", _DETACH), "unmount the host's root")
    os.chdir("/")


def _show(source: Path, target: Path) -> None:
    """A directory of programs, read-only; a link as it is."""
    if source.is_symlink():
        target.symlink_to(source.readlink())
    elif source.is_dir():
        target.mkdir()
        _bind(str(source), target, _RDONLY | _NOSUID | _NODEV)


def _bind(source: str, target: Path, flags: int) -> None:
    _mount(source, str(target), "", _BIND)
    _mount("none", str(target), "", _REMOUNT | _BIND | flags)


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    refused = _LIBC.mount(
        os.fsencode(source), os.fsencode(target), kind.encode() or None, flags, options.encode()
    )
    _check(refused, f"mount at {target}")


def _check(refused: int, what: str) -> None:
    if refused:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot {what}: {os.strerror(number)}")
