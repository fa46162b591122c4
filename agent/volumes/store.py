"""The directories and records of copies of volumes. SHELL over the file system.

    state/volumes/<id>/_data     the files
    state/volumes/<id>/filling.* the files of a copy that is being made
    state/volumes/<id>/filling   the same of a volume with a size: where image.draft is mounted
    state/volumes/<id>/receiving those of an archive that is being unpacked; then the former files
    state/volumes/<id>/former    the former files, where the file system cannot exchange directories
    state/volumes/<id>/image     of a volume with a size: its file system, mounted at _data
    state/volumes/<id>/image.draft      the one of filling, where that is mounted
    state/volumes/<id>/image.receiving  the one of receiving, where that is mounted
    state/volumes/<id>/foreign   exists if _data is a mount point of another file system
    state/volumes/<id>/unfilled  exists while that is filled from the image
    state/volume-records/<id>    the volume's name, once the copy is complete

A copy is complete once its record exists: nothing mounts it before. So a copy whose making was
interrupted is made again, and one that is recorded and missing is never replaced by an empty one.
What an archive replaces it replaces by one rename, so the copy is always the former or the new one.
"""

import ctypes
import errno
import os
import stat
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from threading import Lock
from typing import NamedTuple

from agent.runtime.base import RuntimeFailed
from agent.runtime.program.beneath import Root
from pyswarm_core.aio.trees import remove_tree

_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_PASSING = ("receiving", "filling", "image.receiving", "image.draft")
"""What is in the directory of a volume and a restarted agent needs no more."""
_FILLINGS = "filling.*"


class Paths(NamedTuple):
    """The paths of one volume."""

    directory: Path

    @property
    def data(self) -> Path:
        """Its files."""
        return self.directory / "_data"

    @property
    def filling(self) -> Path:
        """Its files while they are made."""
        return self.directory / "filling"

    @property
    def image(self) -> Path:
        """The file with the file system of a volume with a size."""
        return self.directory / "image"

    @property
    def draft(self) -> Path:
        """`image` while it is made."""
        return self.directory / "image.draft"

    @property
    def receiving(self) -> Path:
        """The files of an archive while they are unpacked."""
        return self.directory / "receiving"

    @property
    def arriving(self) -> Path:
        """The file with the file system of `receiving`, of a volume with a size."""
        return self.directory / "image.receiving"

    @property
    def foreign(self) -> Path:
        """Exists if `data` is a mount point of a file system that is not the volume's own."""
        return self.directory / "foreign"

    @property
    def unfilled(self) -> Path:
        """Exists while that file system is filled."""
        return self.directory / "unfilled"


class VolumeStore:
    """The copies of one host."""

    def __init__(self, state: Path) -> None:
        self._volumes = state / "volumes"
        self._records = state / "volume-records"
        self._finishing = Lock()

    def prepare(self) -> None:
        """Make the directories, readable by root alone."""
        for directory in (self._volumes, self._records):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def ids(self) -> list[str]:
        """The volumes that have a directory, complete or not."""
        with os.scandir(self._volumes) as entries:
            return [entry.name for entry in entries if entry.name.isalnum()]

    def tidy(self, volume_id: str) -> None:
        """Remove what an earlier agent was making of a volume, of which nothing is mounted."""
        directory = self._directory(volume_id)
        _recover(directory)
        for name in (*_PASSING, *(one.name for one in directory.glob(_FILLINGS))):
            _remove(directory / name)

    def complete(self, volume_id: str, name: str) -> Path | None:
        """The directory of the files; None if the copy is to be made.

        Raises RuntimeFailed if the copy was complete and its directory is gone.
        """
        if not self._record(volume_id).exists():
            return None
        data = self._directory(volume_id) / "_data"
        if not _is_directory(data):
            _recover(data.parent)
        if not _is_directory(data):
            raise RuntimeFailed(
                f"volume {name}: {data} is no directory any more: restore it; an empty one is not"
                " made, because the volume had data"
            )
        return data

    def begin(self, volume_id: str) -> Path:
        """An empty directory for the files of a new copy, which `finish` makes the copy. Those of
        other attempts are removed: a thread may still be in `finish` for one, whose caller has
        left, so each has its own.
        """
        directory = self._directory(volume_id)
        directory.mkdir(mode=0o700, exist_ok=True)
        for former in directory.glob(_FILLINGS):
            remove_tree(former)
        filling = directory / f"filling.{token_hex(8)}"
        filling.mkdir(mode=0o755)
        return filling

    def finish(self, volume_id: str, name: str, filling: Path) -> Path:
        """Make the directory of `begin` the copy, and record it; both survive a power loss. Raises
        OSError, also if another attempt has begun since.
        """
        data = self._directory(volume_id) / "_data"
        _sync_file_system(filling)
        with self._finishing:
            if self.is_recorded(volume_id) and _is_directory(data):
                remove_tree(filling)  # another attempt was faster, and tasks may use its copy
                return data
            remove_tree(data)  # of an interrupted `finish`: without a record nothing has mounted it
            filling.rename(data)
            self.record(volume_id, name)
        return data

    def begin_receiving(self, volume_id: str) -> Path:
        """An empty directory for files that `replace` makes the copy. What the copy is stays."""
        directory = self._directory(volume_id)
        directory.mkdir(mode=0o700, exist_ok=True)
        receiving = directory / "receiving"
        remove_tree(receiving)
        receiving.mkdir(mode=0o755)
        return receiving

    def sync(self, directory: Path) -> None:
        """Write what its file system has cached to the disk."""
        _sync_file_system(directory)

    def drop_receiving(self, volume_id: str) -> None:
        """Remove what `begin_receiving` made, or `Mounts.begin_receiving` and is unmounted."""
        remove_tree(self._directory(volume_id) / "receiving")
        self.paths(volume_id).arriving.unlink(missing_ok=True)

    def replace(self, volume_id: str, name: str) -> None:
        """Make the directory of `begin_receiving` the copy, and record it; nothing mounts the
        former one. Whenever this ends early, the copy is the former one or the new one.
        """
        directory = self._directory(volume_id)
        data, receiving = directory / "_data", directory / "receiving"
        _sync_file_system(receiving)
        if self._record(volume_id).exists() and _is_directory(data):
            _exchange(receiving, data)
            _sync(directory)
            remove_tree(receiving)
            return
        _remove(data)  # what is not recorded is no copy
        receiving.rename(data)
        self.record(volume_id, name)

    def replace_image(self, volume_id: str, name: str) -> None:
        """The same as `replace` for a volume with a size, of which nothing is mounted: the file
        that was received takes the place of the former one.
        """
        paths = self.paths(volume_id)
        _sync_file(paths.arriving)
        if not _is_directory(paths.data):
            _remove(paths.data)
            paths.data.mkdir(mode=0o755)
        paths.arriving.rename(paths.image)
        if self.is_recorded(volume_id):
            _sync(paths.directory)
        else:
            self.record(volume_id, name)

    def remove(self, volume_id: str) -> None:
        """Delete the copy; one that does not exist is no error. The record goes first: what is left
        of an interrupted removal is no copy.
        """
        self._record(volume_id).unlink(missing_ok=True)
        remove_tree(self._directory(volume_id))
        self._record(volume_id).with_suffix(".draft").unlink(missing_ok=True)

    def paths(self, volume_id: str) -> "Paths":
        """The paths of a volume."""
        return Paths(self._directory(volume_id))

    def is_recorded(self, volume_id: str) -> bool:
        """Whether the copy is complete."""
        return self._record(volume_id).exists()

    def record(self, volume_id: str, name: str) -> None:
        """The copy is complete; that survives a power loss."""
        _sync(self._directory(volume_id))
        draft = self._record(volume_id).with_suffix(".draft")  # volumes may be a disk of their own
        with draft.open("w") as file:
            file.write(name)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self._record(volume_id))
        _sync(self._records)

    def names(self) -> dict[str, str]:
        """The names of the complete copies, by id."""
        found = {}
        for path in self._records.iterdir():
            if not path.suffix:
                with suppress(FileNotFoundError):
                    found[path.name] = path.read_text()
        return found

    @property
    def top(self) -> Path:
        """The directory of all volumes."""
        return self._volumes

    def _directory(self, volume_id: str) -> Path:
        assert volume_id.isalnum(), f"volume id {volume_id!r} is not letters and digits"
        return self._volumes / volume_id

    def _record(self, volume_id: str) -> Path:
        assert volume_id.isalnum(), f"volume id {volume_id!r} is not letters and digits"
        return self._records / volume_id


def anonymous(directory: Path, number: int) -> Path:
    """An empty directory for a volume that goes with its task; `directory` is the task's own."""
    made = directory / f"{number}"
    remove_tree(made)
    made.mkdir(mode=0o755, parents=True)
    return made


def in_layer(directory: Path, target: str) -> tuple[Path, Path]:
    """The directory of an unnamed volume of a container, and an empty directory that becomes it
    once it is filled. `directory` belongs to the container's writable layer.
    """
    known = _in_layer(directory, target)
    filling = known.with_suffix(".filling")
    if not known.exists():
        remove_tree(filling)
        filling.mkdir(mode=0o755, parents=True)
    return known, filling


def _in_layer(directory: Path, target: str) -> Path:
    return directory / sha256(target.rstrip("/").encode()).hexdigest()[:32]


def was_written(directory: Path, target: str) -> bool:
    """Whether the container's writable layer has the path although no volume is there: the layer
    was made by an agent without volumes of VOLUME.
    """
    if _in_layer(directory, target).exists():
        return False
    try:
        Root(directory.parent / "upper").stat(target, follow=False)
    except OSError:
        return False
    return True


def _exchange(new: Path, old: Path) -> None:
    """Give each of two directories the other one's name, at once."""
    names = os.fsencode(new), os.fsencode(old)
    if not _LIBC.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
        return
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(number, os.strerror(number), str(old))
    former = old.with_name("former")
    remove_tree(former)
    old.rename(former)
    new.rename(old)  # before this, `_recover` finds the former one
    _sync(old.parent)
    remove_tree(former)


def _recover(directory: Path) -> None:
    """Complete or undo an exchange that was interrupted between two renames."""
    data, former = directory / "_data", directory / "former"
    if not _is_directory(former):
        return
    if _is_directory(data):
        remove_tree(former)
    else:
        former.rename(data)
        _sync(directory)


def _remove(path: Path) -> None:
    """Remove a directory, or whatever somebody has put in its place."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        remove_tree(path)


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_file_system(directory: Path) -> None:
    """Write a filled directory's file system to its disk; an empty directory does not need it."""
    with os.scandir(directory) as entries:
        if next(entries, None) is None:
            return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _LIBC.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(directory))
    finally:
        os.close(descriptor)
