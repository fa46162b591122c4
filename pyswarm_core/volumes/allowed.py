"""Which binds a caller who is no admin may make: beneath the fleet's allowed paths. PURE.

This compares names. On the node symbolic links decide what a name means, so a mount carries the
path that allows it, and the agent keeps the source beneath it.
"""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from pyswarm_core.volumes.mounts import BindOptions, Mount, MountType

_PRIVATE = ("", "private", "rprivate", "slave", "rslave")
"""With the others, mounts made in a container appear on its host."""


def beneath(path: str, folder: str) -> bool:
    """Whether the path is the folder or below it. A path that has to be normalised first, with `..`
    or `//`, is not: another program may do so differently.
    """
    names = path.removesuffix("/").split("/")
    if names[0] or any(name in ("", ".", "..") for name in names[1:]):
        return False
    above = folder.split("/")
    return names[: len(above)] == above


def allowing(source: str, allowed: Iterable[str]) -> str:
    """The allowed path that the source is beneath, the longest if there are several; else empty."""
    return max((one for one in allowed if beneath(source, one)), key=len, default="")


def confined(mount: Mount, allowed: Sequence[str]) -> Mount:
    """The mount with the path that allows it, if one does."""
    if mount.type is not MountType.BIND or not (found := allowing(mount.source, allowed)):
        return mount
    options = mount.bind_options or BindOptions()
    return replace(mount, bind_options=replace(options, beneath=found))


def is_allowed(mount: Mount, allowed: Sequence[str]) -> bool:
    """Whether the agent confines the mount to a path that is allowed now, and no mount of the
    container appears on its host.
    """
    options = mount.bind_options
    return (
        options is not None
        and options.beneath in allowed
        and beneath(mount.source, options.beneath)
        and options.propagation in _PRIVATE
    )


def is_confined(mounts: Iterable[Mount]) -> bool:
    """Whether an agent has to keep one of the mounts beneath an allowed path."""
    return any(mount.bind_options and mount.bind_options.beneath for mount in mounts)
