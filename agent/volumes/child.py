"""Work on file systems that may hang, in a process of its own that can be killed. SHELL.

A program of the standard library alone: `python -I -S child.py PARENT`, with a request in JSON on
its standard input and the answer on its standard output. It ends with its parent. A request that
changes mounts holds a lock on the directory of the volume, and looks at what is mounted first: two
agents, one of which was killed, never mount a volume twice.
"""

import ctypes
import errno
import fcntl
import json
import os
import signal
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_PDEATHSIG = 1
_READ_ONLY, _REMOUNT, _BIND = 1, 32, 4096
_DETACH, _NO_FOLLOW = 2, 8
_LOOP_CONTROL = "/dev/loop-control"
_LOOP_GET_FREE, _LOOP_CONFIGURE, _LOOP_GET_STATUS64 = 0x4C82, 0x4C0A, 0x4C05
_AUTOCLEAR = 4
_INFO = struct.Struct("QQQQQIIII64s64s32sQQ")
"""struct loop_info64: lo_device, lo_inode, lo_rdevice, lo_offset, lo_sizelimit, lo_number,
lo_encrypt_type, lo_encrypt_key_size, lo_flags, lo_file_name, lo_crypt_name, lo_encrypt_key,
lo_init[2].
"""
_LOOP_TRIES = 16
_DEPTH_MAX = 256
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FLAGS_KEPT = _READ_ONLY | 2 | 4 | 8 | 1024 | 2048
"""Flags that a bind mount takes in a second call."""


_HINTS = {
    errno.EINVAL: "the file system {0} does not take these options, or the device is none of it:"
    " the kernel's log (dmesg) may say more",
    errno.ENOTBLK: "expected a block device",
    errno.ENODEV: "install its module on this host, or place the tasks on another one",
}
"""What an error of mount(2) means, after its own text. {0}: the file system."""
_UNREACHED = dict.fromkeys(
    (errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT),
    "this host does not reach the server: is it up, and its address right?",
)
_OF_SERVERS = {
    **_UNREACHED,
    errno.ECONNREFUSED: "no server listens there: is it started, and are address and port right?",
}
_OF_NFS = {
    **_OF_SERVERS,
    errno.EACCES: "the server does not export this directory to this host",
    errno.EPERM: "the server does not export this directory to this host",
    errno.ENOENT: "the server exports no such directory",
    errno.EPROTONOSUPPORT: "the server does not speak this version of NFS: another vers= may do",
}
_OF_CIFS = {
    **_OF_SERVERS,
    errno.EACCES: "the server refuses the user or the password: check username, password and"
    " domain, and who may use the share",
    errno.EINVAL: "the file system {0} does not take these options, or username is missing: the"
    " kernel's log (dmesg) may say more",
    errno.ENOENT: "the server has no such share, or no such directory in it",
    errno.ENOKEY: "sec=krb5 needs cifs.upcall of cifs-utils, and a ticket, on this host; with a"
    " password leave it out",
    errno.EOPNOTSUPP: "the server does not speak this version of SMB: another vers= may do",
}
_HINTS_OF = {"nfs": _OF_NFS, "nfs4": _OF_NFS, "cifs": _OF_CIFS, "smb3": _OF_CIFS}
"""By file system."""


class Failed(Exception):
    """The request failed; the text is for users."""


def _mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
    words = [text.encode() for text in (source, target, kind, data)]
    if _LIBC.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3] or None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _unmount(target: str, flags: int) -> None:
    if _LIBC.umount2(target.encode(), flags | _NO_FOLLOW):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def mounts_below(directory: str, table: str = "/proc/self/mountinfo") -> list[str]:
    """The mount points at and below a directory, the last one first."""
    with open(table, encoding="utf-8", errors="surrogateescape") as lines:  # noqa: PTH123
        points = [_unescaped(line.split(" ", 5)[4]) for line in lines]
    top = directory.rstrip("/")
    return [one for one in reversed(points) if one == top or one.startswith(f"{top}/")]


def _unescaped(text: str) -> str:
    for code, char in (("040", " "), ("011", "\t"), ("012", "\n"), ("134", "\\")):
        text = text.replace(f"\\{code}", char)
    return text


@contextmanager
def _locked(request: dict[str, Any]) -> Iterator[None]:
    """Hold the lock of the volume. Mounts are changed in its directory alone. A lazy unmount does
    without a lock that another process holds: it hangs in the kernel, where no signal ends it.
    """
    directory, target = request["lock"], request["target"]
    is_inside = target == directory or target.startswith(f"{directory}/")
    if len(directory) < 2 or not is_inside or ".." in target.split("/"):
        raise Failed(f"{target} is not in the directory of the volume")
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if request.get("lazy"):
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_empty(directory: str) -> bool:
    with os.scandir(directory) as entries:
        return next(entries, None) is None


def _mounted(request: dict[str, Any], mount: Callable[[], None]) -> dict[str, Any]:
    """Mount unless the target is a mount point already; the answer of the file system."""
    target = request["target"]
    with _locked(request):
        if not mounts_below(target):
            mount()
    os.statvfs(target)
    return {"empty": _is_empty(target)}


def do_mount(request: dict[str, Any]) -> dict[str, Any]:
    """Mount a file system."""
    kind, flags, data = request["type"], request["flags"], request["data"]
    device, target = request["device"], request["target"]

    def mount() -> None:
        words = [data] if data else []
        if request["host"]:
            words.append(f"addr={_address(request['host'])}")
        try:
            _mount(
                device, target, kind, flags & ~(_READ_ONLY * bool(flags & _BIND)), ",".join(words)
            )
            if flags & _BIND and flags & _FLAGS_KEPT:
                try:
                    _mount("none", target, "none", _REMOUNT | _BIND | flags & _FLAGS_KEPT, "")
                except OSError:
                    _unmount(target, _DETACH)
                    raise
        except OSError as error:
            raise Failed(_told(error, request)) from None

    return _mounted(request, mount)


def _address(host: str) -> str:
    import socket  # few requests need it, and it takes CPU time

    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Failed(f"no address of {host}: {error.strerror}") from None
    return str(min(found, key=lambda one: one[0] != socket.AF_INET)[4][0])


def _told(error: OSError, request: dict[str, Any]) -> str:
    """The error of mount(2) for users. What servers refuse, file systems tell by numbers that mean
    something else for a disk.
    """
    number, kind = error.errno or 0, request["type"]
    hint = {**_HINTS, **_HINTS_OF.get(kind, {})}.get(number, "")
    if number == errno.ENOENT and _HINTS_OF.get(kind) is _OF_CIFS and "sec=krb5" in request["data"]:
        hint = _OF_CIFS[errno.ENOKEY]  # without a program that gets keys
    told = f"cannot mount {request['device']}: {os.strerror(number)}"
    if number == errno.ENODEV:
        told = f"cannot mount {request['device']}: this host's kernel has no file system {kind}"
    return f"{told}: {hint.format(kind)}" if hint else told


def do_loop(request: dict[str, Any]) -> dict[str, Any]:
    """Mount a file with ext4."""

    def mount() -> None:
        image = os.open(request["image"], os.O_RDWR | os.O_CLOEXEC)
        try:
            device = _loop_of(image) or _new_loop(image, request["image"])
            try:
                # The device is released once nothing uses it, so also if this process is killed.
                _mount(f"/dev/loop{device[0]}", request["target"], "ext4", 0, "discard")
            except OSError as error:
                raise Failed(f"cannot mount {request['image']}: {error.strerror}") from None
            finally:
                os.close(device[1])
        finally:
            os.close(image)

    answer = _mounted(request, mount)
    if request["clear"]:  # a new volume is empty, and e2fsck makes it again when it needs it
        with suppress(FileNotFoundError):
            os.rmdir(f"{request['target']}/lost+found")  # noqa: PTH106
    return answer


def _loop_of(image: int) -> tuple[int, int] | None:
    """The loop device that has the file already: a second one of a file would corrupt it."""
    found = os.fstat(image)
    for name in os.listdir("/sys/block"):  # noqa: PTH208
        if not name.startswith("loop") or not os.path.exists(f"/sys/block/{name}/loop"):  # noqa: PTH110
            continue
        try:
            device = os.open(f"/dev/{name}", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            info = _INFO.unpack(fcntl.ioctl(device, _LOOP_GET_STATUS64, bytes(_INFO.size)))
        except OSError:
            os.close(device)  # it was released meanwhile
            continue
        if (info[0], info[1]) == (_encoded(found.st_dev), found.st_ino):
            return int(name.removeprefix("loop")), device
        os.close(device)
    return None


def _encoded(device: int) -> int:
    """The number of a device as loop_info64 has it: the kernel's huge_encode_dev."""
    major, minor = os.major(device), os.minor(device)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def _new_loop(image: int, path: str) -> tuple[int, int]:
    with open(_LOOP_CONTROL, "rb", buffering=0) as control:  # noqa: PTH123
        for _ in range(_LOOP_TRIES):
            number = fcntl.ioctl(control, _LOOP_GET_FREE)
            device = os.open(_node(number), os.O_RDWR | os.O_CLOEXEC)
            name = path.encode()[-63:]
            info = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, _AUTOCLEAR, name, b"", b"", 0, 0)
            config = struct.pack("II", image, 0) + info + bytes(64)
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, config)
            except OSError as error:
                os.close(device)
                if error.errno == errno.EBUSY:
                    continue  # another process was faster
                reason = "a kernel since 5.8 is needed" if error.errno == errno.EINVAL else ""
                raise Failed(f"loop device: {reason or error.strerror}") from None
            return number, device
    raise Failed("loop device: all free ones were taken by others")


def _node(number: int) -> str:
    """The path of a loop device, which a host without udev may lack."""
    path = f"/dev/loop{number}"
    with suppress(FileExistsError):
        os.mknod(path, 0o660 | stat.S_IFBLK, os.makedev(7, number))
    return path


def do_make(request: dict[str, Any]) -> dict[str, Any]:
    """Make a file of a size with an empty ext4, to be mounted at the target."""
    import subprocess  # it is half of this program's CPU time, and few requests need it

    image = request["image"]
    with _locked(request):
        for point in mounts_below(request["target"]):  # of a making that was interrupted
            _unmount(point, _DETACH)
        with suppress(FileNotFoundError):
            os.unlink(image)  # noqa: PTH108
        descriptor = os.open(image, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.truncate(descriptor, request["bytes"])
        except OSError as error:
            raise Failed(f"a file of {request['bytes']} bytes: {error.strerror}") from None
        finally:
            os.close(descriptor)
        words = ["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,nodiscard", image]
        env = {"LC_ALL": "C", "PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}
        try:
            done = subprocess.run(words, capture_output=True, env=env, check=False)
        except FileNotFoundError:
            raise Failed("this host has no mkfs.ext4: install e2fsprogs") from None
        if done.returncode:
            told = done.stderr.decode(errors="replace").strip().split("\n")
            raise Failed(f"mkfs.ext4: {told[-1] or done.returncode}")
    return {}


def do_unmount(request: dict[str, Any]) -> dict[str, Any]:
    """Unmount what is mounted at and below a directory. `lazy`: also what is in use, or hangs;
    `sync`: report errors of its disk.
    """
    target, busy = request["target"], False
    with _locked(request):
        if request["sync"] and mounts_below(target):
            _sync(target)
        for point in mounts_below(target):
            try:
                _unmount(point, _DETACH if request["lazy"] else 0)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                busy = True
                break
    return {"busy": busy}


def _sync(directory: str) -> None:
    descriptor = os.open(directory, _OPEN)
    try:
        if _LIBC.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


def do_measure(request: dict[str, Any]) -> dict[str, Any]:
    """The bytes on disk and the inodes of a volume; a file system of its own reports them."""
    os.nice(19)
    path = request["path"]
    if _is_root_of_mount(path):
        found = os.statvfs(path)
        size = (found.f_blocks - found.f_bfree) * found.f_frsize
        return {"bytes": size, "inodes": max(found.f_files - found.f_ffree, 0)}
    return _walked(path, request["entries"])


def _is_root_of_mount(path: str) -> bool:
    """Whether a whole file system is mounted there, not a directory of one (a bind)."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:  # noqa: PTH123
        words = [line.split(" ", 5) for line in lines]
    return any(_unescaped(one[4]) == path and one[3] == "/" for one in words)


def _walked(path: str, most: int) -> dict[str, Any]:
    """As `du`: blocks, each inode once. Files that vanish meanwhile are left out."""
    size = inodes = 0
    linked: set[int] = set()
    top = os.open(path, _OPEN)
    try:
        for found in _files(top, os.fstat(top).st_dev, 0):
            if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
                if found.st_ino in linked:
                    continue
                linked.add(found.st_ino)
            inodes += 1
            size += found.st_blocks * 512
            if inodes > most:
                raise Failed(f"it has more than {most} files")
    finally:
        os.close(top)
    return {"bytes": size, "inodes": inodes}


def _files(directory: int, disk: int, depth: int) -> Iterator[os.stat_result]:
    """Every entry below an open directory that is on the same disk."""
    if depth > _DEPTH_MAX:
        raise Failed(f"it has directories deeper than {_DEPTH_MAX} levels")
    with os.scandir(directory) as entries:
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
                yield found
                if not stat.S_ISDIR(found.st_mode) or found.st_dev != disk:
                    continue
                child = os.open(entry.name, _OPEN, dir_fd=directory)
            except (FileNotFoundError, NotADirectoryError):
                continue
            try:
                yield from _files(child, disk, depth + 1)
            finally:
                os.close(child)


DONE: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "mount": do_mount,
    "loop": do_loop,
    "make": do_make,
    "unmount": do_unmount,
    "measure": do_measure,
}


def main() -> None:
    """Answer one request."""
    _LIBC.prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        return
    request = json.load(sys.stdin)
    try:
        answer = DONE[request["work"]](request)
    except Failed as error:
        answer = {"error": str(error)}
    except OSError as error:
        name = f": {error.filename}" if error.filename else ""
        reason = os.strerror(error.errno) if error.errno else str(error)
        answer = {"error": f"{reason}{name}", "errno": error.errno or 0}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
