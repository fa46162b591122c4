"""Where the files of a container are, for copies from and to it. SHELL.

A running container is entered through the root directory of its first process: with the mounts that
it sees, and never through a path that its processes could change. One that ends has its overlay
mount alone. A kept layer without a container is mounted for the time of the copy, with its volumes:
the mounts are detached at once, and end with their last descriptor.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from secrets import token_hex

import msgspec
from msgspec.structs import replace

from agent.runtime import mounts, procs
from agent.runtime.base import Ids, Rootfs, RuntimeFailed
from agent.runtime.isolation import idmaps
from agent.runtime.layout import Layout
from agent.runtime.running import mounted
from agent.runtime.running.mounted import Mounted

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


class _Config(msgspec.Struct, frozen=True):
    """The part of a config.json that is about files."""

    root: _Root = _Root()
    mounts: tuple[Mounted, ...] = ()
    linux: _Linux = _Linux()


class _Kept(msgspec.Struct, frozen=True):
    """What is stored beside a kept layer."""

    layers: tuple[str, ...]
    config: _Config


_decoder = msgspec.json.Decoder(_Config)
_kept = msgspec.json.Decoder(_Kept)


def remember(layout: Layout, layer: str, layers: tuple[str, ...], config: bytes) -> None:
    """Store what a kept layer lies on, for the time after its container. `config` is the OCI
    runtime's.
    """
    draft = layout.layer(layer) / "rootfs.draft"
    draft.write_bytes(msgspec.json.encode(_Kept(layers, _decoder.decode(config))))
    draft.replace(layout.layer(layer) / "rootfs")


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
    directory = layout.writable(container_id)
    with suppress(FileNotFoundError):
        directory = layout.layer((bundle / "layer").read_text())
    return _rootfs(
        descriptor,
        partial(os.close, descriptor),
        str(overlay),
        directory,
        _Kept(record.layers if record else (), config),
    )


def opened_layer(layout: Layout, layer: str, *, writable: bool) -> Rootfs:
    """The files of a kept layer. Raises RuntimeFailed if it does not exist or cannot be mounted."""
    directory = layout.layer(layer)
    target = layout.run / f"view-{token_hex(8)}"
    absent = layout.run / "absent"
    try:
        kept = _kept.decode((directory / "rootfs").read_bytes())
        target.mkdir(mode=0o700)
        try:
            with _layers(kept.layers, directory, target) as layers:
                if writable:
                    mounts.mount_overlay(layers, directory, target, volatile=False)
                else:
                    mounts.view((str(directory / "upper"), *layers), target)
            try:
                absent.mkdir(mode=0o700, exist_ok=True)
                descriptor, overlay = _opened_with_volumes(layout, directory, kept, target, absent)
            finally:
                mounts.unmount(target)
        finally:
            target.rmdir()
    except FileNotFoundError as error:
        raise RuntimeFailed("the container has no files on this host") from error
    except (OSError, msgspec.DecodeError) as error:
        raise RuntimeFailed(f"the container's files cannot be mounted: {error}") from error
    status = absent.stat()

    def close() -> None:
        os.close(descriptor)
        os.close(overlay)

    found = _rootfs(descriptor, close, f"/proc/self/fd/{overlay}", directory, kept)
    return replace(found, absent=(status.st_dev, status.st_ino))


def _opened_with_volumes(
    layout: Layout, directory: Path, kept: _Kept, target: Path, absent: Path
) -> tuple[int, int]:
    """Descriptors of the layer that is mounted at `target`: with the container's volumes, and
    without. Volumes whose ids a user namespace maps are absent.
    """
    places = (layout.state / "volumes", directory / "volumes")
    mapped = bool(idmaps.start_of(directory))
    overlay = os.open(target, _OPEN)
    try:
        mounted.mount_all(kept.config.mounts, target, () if mapped else places, absent)
        return mounted.tree(target), overlay
    except BaseException:
        os.close(overlay)
        raise


def _layers(
    layers: tuple[str, ...], directory: Path, target: Path
) -> AbstractContextManager[tuple[str, ...]]:
    """The layers with the owners that the files of the kept layer have."""
    if start := idmaps.start_of(directory):
        return idmaps.shifted(layers, start, target.with_name(f"{target.name}-layers"))
    return nullcontext(layers)


def _rootfs(
    descriptor: int, close: Callable[[], None], overlay: str, directory: Path, kept: _Kept
) -> Rootfs:
    return Rootfs(
        descriptor=descriptor,
        close=close,
        overlay=overlay,
        upper=str(directory / "upper"),
        layers=kept.layers,
        mounts=tuple(mount.destination for mount in kept.config.mounts),
        read_only=kept.config.root.readonly,
        users=_ids(kept.config.linux.uid_mappings),
        groups=_ids(kept.config.linux.gid_mappings),
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
