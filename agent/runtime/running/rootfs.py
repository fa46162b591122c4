"""Where the files of a container are, for copies from and to it. SHELL.

A running container is entered through the root directory of its first process: with the mounts that
it sees, and never through a path that its processes could change. One that does not run has its
overlay mount alone.
"""

import os
from pathlib import Path

import msgspec

from agent.runtime import procs
from agent.runtime.base import Ids, Rootfs, RuntimeFailed
from agent.runtime.layout import Layout

_OPEN = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class _Range(msgspec.Struct, frozen=True):
    container_id: int = msgspec.field(name="containerID")
    host_id: int = msgspec.field(name="hostID")
    size: int = 0


class _Linux(msgspec.Struct, frozen=True, rename="camel"):
    uid_mappings: tuple[_Range, ...] = ()
    gid_mappings: tuple[_Range, ...] = ()


class _Root(msgspec.Struct, frozen=True):
    readonly: bool = False


class _Mount(msgspec.Struct, frozen=True):
    destination: str


class _Config(msgspec.Struct, frozen=True):
    """The part of a config.json that is about files."""

    root: _Root = _Root()
    mounts: tuple[_Mount, ...] = ()
    linux: _Linux = _Linux()


_decoder = msgspec.json.Decoder(_Config)


def opened(layout: Layout, container_id: str) -> Rootfs:
    """The files of a container. Raises RuntimeFailed if it does not exist."""
    bundle = layout.bundle(container_id)
    record = layout.read_record(container_id)
    try:
        config = _decoder.decode((bundle / "config.json").read_bytes())
        overlay = bundle / "rootfs"
        descriptor = _open_running(record.container) if record else -1
        if descriptor < 0:
            descriptor = _open(overlay)
    except (OSError, msgspec.DecodeError) as error:
        raise RuntimeFailed(f"container {container_id} has no files on this host") from error
    return Rootfs(
        descriptor=descriptor,
        overlay=str(overlay),
        upper=str(layout.writable(container_id) / "upper"),
        layers=record.layers if record else (),
        mounts=tuple(mount.destination for mount in config.mounts),
        read_only=config.root.readonly,
        users=_ids(config.linux.uid_mappings),
        groups=_ids(config.linux.gid_mappings),
    )


def _open(overlay: Path) -> int:
    if not os.path.ismount(overlay):
        raise FileNotFoundError(overlay)
    return os.open(overlay, _OPEN)


def _open_running(process: procs.Process) -> int:
    """The root directory of a running process; -1 if it has ended."""
    try:
        descriptor = os.open(f"/proc/{process.pid}/root", _OPEN) if process.pid else -1
    except OSError:
        return -1
    if procs.is_alive(process):  # checked afterwards: before it, the pid could be another process
        return descriptor
    os.close(descriptor)
    return -1


def _ids(ranges: tuple[_Range, ...]) -> tuple[Ids, ...]:
    return tuple(Ids(one.container_id, one.host_id, one.size) for one in ranges)
