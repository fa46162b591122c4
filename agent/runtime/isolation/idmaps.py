"""User namespaces of containers: a range of ids each, and image layers seen through it. SHELL over
open_tree(2), mount_setattr(2) and move_mount(2).

A layer is mounted a second time with its owners shifted into the range (an idmapped mount), and the
container's overlay lies over these mounts: nothing is copied or changed. Invariant: a file beside a
container's upper directory, which no container sees, has its range from before its first file until
both are removed, so the disk says which ranges are taken.
"""

import ctypes
import errno
import os
import select
import subprocess
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path

from agent.runtime.conmon import ENVIRONMENT
from agent.runtime.mounts import unmount

SIZE = 65_536
"""Ids of a range; as many as `tasks.isolation.config` allows."""
FIRST, RANGES = 1_879_048_192, 4_096
"""The ids up to 2^31 that no other program assigns (systemd's UIDS-GIDS)."""

_RANGE = "range"
_LIBC = ctypes.CDLL(None, use_errno=True)
# The same on every machine.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_CLONE, _CLOEXEC = 1, os.O_CLOEXEC
_EMPTY_PATH, _FROM_EMPTY_PATH = 0x1000, 4
_IDMAP = 0x0010_0000
_AT_FDCWD = -100
_TIMEOUT_S = 10.0


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def choose(container_id: str, taken: Collection[int]) -> int:
    """The first id of a free range: where the search begins depends on the container's id, so that
    hosts that share a kernel seldom choose the same. Raises OSError if none is free. PURE.
    """
    begin = zlib.crc32(container_id.encode())
    for step in range(RANGES):
        start = FIRST + (begin + step) % RANGES * SIZE
        if start not in taken:
            return start
    raise OSError(errno.ENOSPC, f"all {RANGES} ranges of ids for user namespaces are taken")


def taken(*writables: Path) -> set[int]:
    """The first ids of the ranges of all containers, whose writable layers are in these folders."""
    starts = (start_of(Path(entry)) for entry in chain.from_iterable(map(os.scandir, writables)))
    return {start for start in starts if start}


def start_of(writable: Path) -> int:
    """The first id of the range of a writable layer; 0 if it has none. Owners of its files say
    nothing: root of a container without a user namespace gives them to any id.
    """
    try:
        return int((writable / _RANGE).read_text())
    except FileNotFoundError:
        return 0


def assign(writable: Path, start: int) -> None:
    """Give the writable layer the range."""
    draft = writable / f"{_RANGE}.draft"
    draft.write_text(str(start))
    draft.replace(writable / _RANGE)


def mappings(start: int) -> dict[str, list[dict[str, int]]]:
    """The OCI config's mappings of a range."""
    row = {"containerID": 0, "hostID": start, "size": SIZE}
    return {"uidMappings": [row], "gidMappings": [row]}


@contextmanager
def shifted(layers: Sequence[str], start: int, place: Path) -> Iterator[tuple[str, ...]]:
    """The layers with their owners shifted into the range, mounted below `place` (a new directory)
    until the block ends; an overlay made meanwhile keeps them.

    Raises OSError saying what the kernel refuses.
    """
    place.mkdir(mode=0o700)
    try:
        with ExitStack() as opened:
            namespace = opened.enter_context(_user_namespace(start))
            paths = []
            for number, layer in enumerate(layers):
                mounted = place / str(number)
                mounted.mkdir()
                descriptor = _shifted(layer, namespace)
                opened.callback(os.close, descriptor)
                # Kernels before 6.15 make no overlay of mounts that are attached nowhere.
                _checked(
                    f"mount image layer {layer}",
                    _MOVE_MOUNT,
                    descriptor,
                    b"",
                    _AT_FDCWD,
                    os.fsencode(mounted),
                    _FROM_EMPTY_PATH,
                )
                paths.append(f"/proc/self/fd/{descriptor}")
            yield tuple(paths)
    finally:
        remove(place)


def remove(place: Path) -> None:
    """Unmount the layers that `shifted` mounted; no such directory is no error."""
    try:
        numbers = list(place.iterdir())
    except FileNotFoundError:
        return
    for mounted in numbers:
        unmount(mounted)
        mounted.rmdir()
    place.rmdir()


def problem(directory: Path) -> str:
    """Why this host makes no containers with user namespaces whose layers are in that directory;
    empty if it does.
    """
    try:
        with _user_namespace(FIRST) as namespace:
            os.close(_shifted(str(directory), namespace))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _shifted(layer: str, namespace: int) -> int:
    """A descriptor of a detached mount of the layer, with the ids of the namespace."""
    what = f"image layer {layer}"
    descriptor = _checked(what, _OPEN_TREE, _AT_FDCWD, os.fsencode(layer), _CLONE | _CLOEXEC)
    attributes = _Attributes(attr_set=_IDMAP, userns_fd=namespace)
    try:
        _checked(
            f"shift the owners of {what}, whose file system or kernel may not support it",
            _MOUNT_SETATTR,
            descriptor,
            b"",
            _EMPTY_PATH,
            ctypes.byref(attributes),
            ctypes.sizeof(attributes),
        )
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def _user_namespace(start: int) -> Iterator[int]:
    """A descriptor of a user namespace with the range; a process that only waits makes it."""
    words = ["unshare", "--user", "cat"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, env=ENVIRONMENT) as waiting:
        assert waiting.stdin
        assert waiting.stdout
        assert waiting.stderr
        try:
            waiting.stdin.write(b"\n")
            waiting.stdin.flush()
            poll = select.poll()
            poll.register(waiting.stdout, select.POLLIN)
            # It answers once it is in its namespace.
            if not (poll.poll(_TIMEOUT_S * 1000) and waiting.stdout.read(1)):
                waiting.kill()
                reason = waiting.stderr.read(1024).decode(errors="replace").strip()
                raise OSError(errno.EPERM, f"make a user namespace: {reason or 'no answer'}")
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{waiting.pid}/{name}").write_text(f"0 {start} {SIZE}\n")
            descriptor = os.open(f"/proc/{waiting.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            waiting.kill()
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _checked(what: str, number: int, *arguments: object) -> int:
    """The result of a system call. Raises OSError naming `what`."""
    typed = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result: int = _LIBC.syscall(ctypes.c_long(number), *typed)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result
