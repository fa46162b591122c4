"""The devices of this host that containers may get. SHELL, reads /dev."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from agent.runtime.base import DeviceNode, RuntimeFailed
from pyswarm_core.docker.isolation.cdi import is_qualified
from pyswarm_core.errors import reason_of
from pyswarm_core.specs import ContainerSpec, Device

_DEV = Path("/dev")
_NOT_SHARED = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"})
"""Names below /dev that every container has of its own; those of Docker."""


def of_container(spec: ContainerSpec) -> tuple[DeviceNode, ...]:
    """The nodes of the spec's devices by path (of a directory, all below it), then, for a
    privileged container, all others of the host. Raises RuntimeFailed naming a device that does not
    exist.
    """
    named = [device for device in spec.devices if not is_qualified(device.path_on_host)]
    found = [node for device in named for node in _requested(device)]
    if spec.privileged:
        taken = {node.path for node in found}
        found += [node for node in _below(_DEV, "/dev", "rwm") if node.path not in taken]
    return tuple(found)


def _requested(device: Device) -> list[DeviceNode]:
    inside = device.path_in_container or device.path_on_host
    try:
        path = Path(device.path_on_host).resolve(strict=True)
        if path.is_dir() and _DEV not in (path, *path.parents):
            raise OSError(errno.EINVAL, "a directory outside of /dev", device.path_on_host)
        if path.is_dir():
            found = list(_below(path, inside, device.cgroup_permissions))
        else:
            found = list(_node(path, inside, device.cgroup_permissions))
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        reason = reason_of(error, device.path_on_host) if isinstance(error, OSError) else error
        raise RuntimeFailed(f"device {device.path_on_host} of this host: {reason}") from None
    if not found:
        raise RuntimeFailed(f"device {device.path_on_host} of this host: it is no device")
    return found


def _below(directory: Path, inside: str, permissions: str) -> Iterator[DeviceNode]:
    for entry in sorted(os.scandir(directory), key=lambda each: each.name):
        if entry.name in _NOT_SHARED and directory == _DEV:
            continue
        path = f"{inside.rstrip('/')}/{entry.name}"
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _below(Path(entry.path), path, permissions)
            else:
                yield from _node(Path(entry.path), path, permissions)
        except FileNotFoundError:
            continue  # unplugged meanwhile


def node_at(path: Path, inside: str, permissions: str) -> DeviceNode | None:
    """The device at a path of the host, as `inside` in a container; None if it is no device. Raises
    OSError.
    """
    status = path.lstat()
    kinds = {stat.S_IFCHR: "c", stat.S_IFBLK: "b"}
    if (kind := kinds.get(stat.S_IFMT(status.st_mode))) is None:
        return None
    return DeviceNode(
        path=inside,
        source=str(path),
        kind=kind,
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        permissions=permissions,
    )


def _node(path: Path, inside: str, permissions: str) -> Iterator[DeviceNode]:
    if (found := node_at(path, inside, permissions)) is not None:
        yield found
