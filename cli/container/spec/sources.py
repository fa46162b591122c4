"""Sources of binds that mean the host on which the command runs. PURE.

As in Docker, `./conf` and `../conf` are relative to the working directory. A source at or below the
working directory, which a shell makes of `$(pwd)`, means the same. The container runs on this host
then.
"""

from collections.abc import Iterable, Sequence
from posixpath import commonpath, join, normpath

import msgspec
from msgspec.structs import replace

from pyswarm_core.constraints import parse
from pyswarm_core.errors import InvalidArgument, quoted
from pyswarm_core.volumes.mounts import Mount, MountType, is_relative

_NODE = ("node.id", "node.hostname")


class Local(msgspec.Struct, frozen=True):
    """A source that means this host."""

    typed: str
    path: str
    """Absolute."""

    @property
    def relative(self) -> bool:
        """Whether it was typed so; no path of another node can be meant then."""
        return is_relative(self.typed)


class Here(msgspec.Struct, frozen=True):
    """This host, as a node of the fleet."""

    node_id: str
    hostname: str


def resolved(mounts: Iterable[Mount], folder: str) -> tuple[Mount, ...]:
    """The mounts with absolute sources. `folder` is the working directory without links, so that
    `..` means what it means to `ls`.
    """
    return tuple(
        replace(mount, source=normpath(join(folder, mount.source)))
        if mount.type is MountType.BIND and is_relative(mount.source)
        else mount
        for mount in mounts
    )


def local(mounts: Iterable[Mount], folders: Sequence[str]) -> tuple[Local, ...]:
    """The sources that mean this host. `folders`: the names of the working directory, the one
    without links first. Every path is below `/`: there, only relative ones mean this host.
    """
    found = {}
    for mount in mounts:
        if mount.type is not MountType.BIND:
            continue
        if is_relative(mount.source):
            found[mount.source] = normpath(join(folders[0], mount.source))
        elif any(_within(mount.source, folder) for folder in folders):
            found[mount.source] = mount.source
    return tuple(Local(typed, path) for typed, path in found.items())


def _within(source: str, folder: str) -> bool:
    if not source.startswith("/") or folder == "/":
        return False
    return commonpath((normpath(source), folder)) == folder


def named_nodes(constraints: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """The nodes that constraints demand, as key and value; those that cannot be read are left to
    validation.
    """
    found = []
    for text in constraints:
        try:
            constraint = parse(text)
        except InvalidArgument:
            continue
        if constraint.key in _NODE and constraint.equal:
            found.append((constraint.key, constraint.value))
    return tuple(found)


def pinned(
    sources: Sequence[Local], constraints: tuple[str, ...], here: Here | str
) -> tuple[tuple[str, ...], tuple[Local, ...]]:
    """The constraints with the one of this host, and the sources because of which. `here` is a
    reason if this host is no node of the fleet. Raises InvalidArgument.

    A node that the constraints name is where an absolute source is meant to be.
    """
    named = named_nodes(constraints)
    meant = tuple(one for one in sources if one.relative or not named)
    if not meant:
        return constraints, ()
    first = meant[0]
    if isinstance(here, str):
        raise _not_here(first, here)
    own = {"node.id": here.node_id, "node.hostname": here.hostname}
    for key, value in named:
        if own[key].casefold() != value.casefold():
            raise InvalidArgument(
                f"bind {_shown(first)} is on this host, node {here.hostname}, and {key}=={value}"
                " demands another node: give an absolute path of that node, or leave out the"
                " constraint"
            )
    return (*constraints, f"node.id=={here.node_id}"), meant


def _not_here(source: Local, reason: str) -> InvalidArgument:
    path = source.path if source.path.isprintable() else "/PATH"
    elsewhere = "" if source.relative else ", or run the command in another directory"
    return InvalidArgument(
        f"bind {_shown(source)} is on this host, and {reason}: copy the files into a volume"
        " (`pyswarm volume create data`, then `pyswarm volume cp`), or name the node that has them,"
        f" as in --constraint node.hostname==NODE with the source {path}{elsewhere}"
    )


def notices(sources: Iterable[Local], here: Here) -> list[str]:
    """What is printed of each source."""
    told = f"the container runs on this host, {here.hostname}"
    return [f"bind {_shown(source)}: {told}" for source in sources]


def _shown(source: Local) -> str:
    return source.typed if source.typed.isprintable() else quoted(source.typed)
