"""User and group ids of a container's files, inside and outside of its user namespace. PURE."""

from collections.abc import Callable
from typing import Protocol

from agent.runtime.base import Ids, Rootfs
from pyswarm_core.aio.archives.entries import Refused

NOBODY = 65534
"""What the kernel shows for an id that has none inside."""


class Status(Protocol):
    """The ids of an `os.stat_result`."""

    @property
    def st_uid(self) -> int:
        """The user."""
        ...

    @property
    def st_gid(self) -> int:
        """The group."""
        ...


def inside(rootfs: Rootfs) -> Callable[[Status], tuple[int, int]]:
    """The ids that a file has in the container."""

    def owner(status: Status) -> tuple[int, int]:
        return _inside(rootfs.users, status.st_uid), _inside(rootfs.groups, status.st_gid)

    return owner


def outside(rootfs: Rootfs) -> Callable[[int, int], tuple[int, int] | None]:
    """The ids on the host of ids in the container. Raises Refused for one that it does not have."""

    def owner(uid: int, gid: int) -> tuple[int, int] | None:
        return _outside(rootfs.users, uid, "user"), _outside(rootfs.groups, gid, "group")

    return owner


def _inside(ranges: tuple[Ids, ...], number: int) -> int:
    if not ranges:
        return number
    for one in ranges:
        if one.outside <= number < one.outside + one.size:
            return number - one.outside + one.inside
    return NOBODY


def _outside(ranges: tuple[Ids, ...], number: int, what: str) -> int:
    if not ranges:
        return number
    for one in ranges:
        if one.inside <= number < one.inside + one.size:
            return number - one.inside + one.outside
    raise Refused(
        f"the archive is refused: its {what} id {number} does not exist in the container's user"
        " namespace"
    )
