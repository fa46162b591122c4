"""Which entries an archive may have, and where copies land. PURE.

Nobody trusts an archive: that of a user is unpacked as root on a host, that of a container on the
user's machine. Names and hard links stay beneath the destination; a symbolic link may name any
absolute path, as in Docker, because nothing is ever written through a link of the archive.
"""

import posixpath
from typing import NamedTuple

import msgspec

from pyswarm_core.aio.archives.limits import ARCHIVE_DEPTH_MAX
from pyswarm_core.errors import InvalidArgument, NotFound, quoted

NAME_BYTES_MAX = 255
"""Of one name in a path: that of every file system."""
Parts = tuple[str, ...]
"""A path beneath the top of an archive or a destination; empty: the top itself."""


class Refused(InvalidArgument):
    """An archive that is not unpacked; the text names the entry."""


def refused(name: str, reason: str) -> Refused:
    """The error of one entry."""
    return Refused(f"the archive is refused: entry {quoted(name)} {reason}")


def parts_of(name: str) -> Parts:
    """The path of an entry. Raises Refused for one that is not beneath the top."""
    if name.startswith("/"):
        raise refused(name, "has an absolute path")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise refused(name, 'contains ".."')
    if "\0" in name or any(len(_encoded(part)) > NAME_BYTES_MAX for part in parts):
        raise refused(name, "is not a valid file name")
    if len(parts) > ARCHIVE_DEPTH_MAX:
        raise refused(name, f"is deeper than {ARCHIVE_DEPTH_MAX} directories")
    return parts


def link_target(name: str, target: str) -> Parts:
    """The path that a hard link names, beneath the same top. Raises Refused."""
    if target.startswith("/") or ".." in target.split("/"):
        raise refused(name, f"is a hard link to {quoted(target)}, which is outside the archive")
    parts = parts_of(target)
    if not parts:
        raise refused(name, "is a hard link to a directory")
    return parts


def check_symlink(name: str, place: Parts, target: str) -> None:
    """Raise Refused for a relative link that leads above the top; `place` is the entry's path."""
    if not target or "\0" in target:
        raise refused(name, "is a symbolic link without a valid target")
    if target.startswith("/"):
        return
    depth = len(place) - 1
    for part in target.split("/"):
        if part == "..":
            depth -= 1
        elif part not in ("", "."):
            depth += 1
        if depth < 0:
            raise refused(name, f"is a symbolic link to {quoted(target)}, outside the archive")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


class Source(msgspec.Struct, frozen=True):
    """What is copied, as its archive has it."""

    name: str
    """The name of the archive's top; empty: the archive has the content of a directory."""
    is_directory: bool


class Existing(msgspec.Struct, frozen=True):
    """What is at the destination before the copy."""

    exists: bool = False
    is_directory: bool = False


class Landing(NamedTuple):
    """Where the archive's entries go."""

    inside: bool
    """In the destination, which is a directory; otherwise beside it, in its parent."""
    name: str
    """The name that the top gets; empty: the entries themselves go there."""
    strip: str
    """The name of the archive's top; empty: it has none."""

    def place(self, name: str, parts: Parts) -> Parts:
        """The path of an entry at the destination. Raises Refused for one beside the top."""
        if self.strip:
            if parts[:1] != (self.strip,):
                raise refused(name, f"is not part of {quoted(self.strip)}")
            parts = parts[1:]
        return (self.name, *parts) if self.name else parts


def landing(source: Source, path: str, existing: Existing) -> Landing:
    """Docker's rules of `cp` for a destination path. Raises NotFound and InvalidArgument."""
    if existing.is_directory:
        return Landing(inside=True, name=source.name, strip=source.name)
    base = posixpath.basename(trimmed(path))
    if existing.exists:
        if asserts_directory(path):
            raise InvalidArgument(f"{quoted(path)} is not a directory")
        if source.is_directory:
            raise InvalidArgument(f"cannot copy a directory to the file {quoted(path)}")
    elif asserts_directory(path) and not source.is_directory:
        raise NotFound(f"no such directory: {quoted(path)}")
    return Landing(inside=False, name=base, strip=source.name)


def into_directory(path: str, existing: Existing) -> Landing:
    """Where an archive goes that a user made: into an existing directory, as it is."""
    if not existing.exists:
        raise NotFound(f"no such directory: {quoted(path)}")
    if not existing.is_directory:
        raise InvalidArgument(f"destination {quoted(path)} must be a directory")
    return Landing(inside=True, name="", strip="")


def asserts_directory(path: str) -> bool:
    """Whether the path can only be a directory: it ends with `/` or `/.`."""
    return path.endswith(("/", "/.", "/..")) or path in (".", "..")


def is_content(path: str) -> bool:
    """Whether a source path means what is in the directory, and not the directory."""
    return path.endswith("/.") or path == "." or not path.strip("/")


def trimmed(path: str) -> str:
    """The path without trailing `/` and `/.`."""
    while len(path) > 1 and asserts_directory(path) and not path.endswith(".."):
        cut = path[:-2] if path.endswith("/.") else path.rstrip("/")
        if cut in ("", path):
            return cut or "/"
        path = cut
    return path


def top_name(path: str) -> str:
    """The name of the top of an archive of that source; empty: the content of a directory."""
    return "" if is_content(path) else posixpath.basename(posixpath.normpath(path))
