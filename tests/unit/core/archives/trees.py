"""Directories as values, and archives made by hand."""

import io
import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pyswarm_core.aio.archives.entries import Landing
from pyswarm_core.aio.archives.packing import pack
from pyswarm_core.aio.archives.reading import Source
from pyswarm_core.aio.archives.unpacking import Copied, Rights, unpack

OWN = Rights(owner=lambda uid, gid: None)
AS_IT_IS = Landing(inside=True, name="", strip="")


def packed(path: Path, name: str) -> bytes:
    """The archive of a file, whose top has this name."""
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        return b"".join(pack(descriptor, name))
    finally:
        os.close(descriptor)


def source_of(archive: bytes, size: int = 1000) -> Source:
    """The archive as it arrives, in parts of odd sizes."""
    parts = iter([archive[at : at + size] for at in range(0, len(archive), size)])
    return Source(lambda: next(parts, b""))


def unpacked(
    archive: bytes, directory: Path, landing: Landing = AS_IT_IS, rights: Rights = OWN
) -> Copied:
    """Unpack an archive into a directory."""
    opened = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    return unpack(source_of(archive), lambda first: (opened, landing), rights)


def tar(*entries: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> bytes:
    """An archive of exactly these entries."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            info, data = entry if isinstance(entry, tuple) else (entry, b"")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    """One entry of an archive."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, 0o755
    return info


def tree(top: Path, *, times: bool = True) -> dict[str, tuple[object, ...]]:
    """All files below a directory: type, mode, owner, time, content or target; hard links by the
    first name of their file.
    """
    first: dict[int, str] = {}
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(_below(top)):
        status = path.lstat()
        name = str(path.relative_to(top))
        same = first.setdefault(status.st_ino, name) if not path.is_dir() else name
        content: object = ""
        if path.is_symlink():
            content = str(path.readlink())
        elif stat.S_ISREG(status.st_mode):
            content = path.read_bytes() if status.st_size < 1 << 20 else status.st_size
        found[name] = (
            stat.S_IFMT(status.st_mode),
            stat.S_IMODE(status.st_mode),
            (status.st_uid, status.st_gid),
            int(status.st_mtime) if times else 0,
            content,
            same,
        )
    return found


def _below(top: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(top):
        for name in (*names, *files):
            yield Path(directory) / name


def names(found: dict[str, tuple[object, ...]]) -> Sequence[str]:
    """The paths alone."""
    return list(found)
