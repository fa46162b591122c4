"""The directories and records of copies of volumes. SHELL over the file system.

    state/volumes/<id>/_data     the files
    state/volumes/<id>/filling   the files of a copy that is being made
    state/volume-records/<id>    the volume's name, once the copy is complete

A copy is complete once its record exists: nothing mounts it before. So a copy whose making was
interrupted is made again, and one that is recorded and missing is never replaced by an empty one.
"""

import ctypes
import os
import stat
from contextlib import suppress
from pathlib import Path

from agent.runtime.base import RuntimeFailed
from pyswarm_core.aio.trees import remove_tree

_LIBC = ctypes.CDLL(None, use_errno=True)


class VolumeStore:
    """The copies of one host."""

    def __init__(self, state: Path) -> None:
        self._volumes = state / "volumes"
        self._records = state / "volume-records"

    def prepare(self) -> None:
        """Make the directories, readable by root alone."""
        for directory in (self._volumes, self._records):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def complete(self, volume_id: str, name: str) -> Path | None:
        """The directory of the files; None if the copy is to be made.

        Raises RuntimeFailed if the copy was complete and its directory is gone.
        """
        if not self._record(volume_id).exists():
            return None
        data = self._directory(volume_id) / "_data"
        if not _is_directory(data):
            raise RuntimeFailed(
                f"volume {name}: {data} is no directory any more: restore it; an empty one is not"
                " made, because the volume had data"
            )
        return data

    def begin(self, volume_id: str) -> Path:
        """An empty directory for the files of a new copy, which `finish` makes the copy."""
        directory = self._directory(volume_id)
        directory.mkdir(mode=0o700, exist_ok=True)
        filling = directory / "filling"
        remove_tree(filling)
        filling.mkdir(mode=0o755)
        return filling

    def finish(self, volume_id: str, name: str) -> Path:
        """Make the directory of `begin` the copy, and record it; both survive a power loss."""
        directory = self._directory(volume_id)
        data = directory / "_data"
        remove_tree(data)  # of an interrupted `finish`: without a record nothing has mounted it
        _sync_file_system(directory / "filling")
        (directory / "filling").rename(data)
        _sync(directory)
        draft = self._record(volume_id).with_suffix(".draft")  # volumes may be a disk of their own
        with draft.open("w") as file:
            file.write(name)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self._record(volume_id))
        _sync(self._records)
        return data

    def remove(self, volume_id: str) -> None:
        """Delete the copy; one that does not exist is no error. The record goes first: what is left
        of an interrupted removal is no copy.
        """
        self._record(volume_id).unlink(missing_ok=True)
        remove_tree(self._directory(volume_id))
        self._record(volume_id).with_suffix(".draft").unlink(missing_ok=True)

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


def source_of_bind(path: str, *, create: bool) -> str:
    """The source of a bind mount. Raises RuntimeFailed if it does not exist, unless it is to be
    made.
    """
    with suppress(FileNotFoundError):
        Path(path).stat()
        return path
    if not create:
        reason = f"bind source path does not exist: {path}"
        raise RuntimeFailed(f'invalid mount config for type "bind": {reason}')
    Path(path).mkdir(parents=True, exist_ok=True)
    return path


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


def _sync_file_system(directory: Path) -> None:
    """Write the file system of a filled directory to its disk; an empty one needs it not."""
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
