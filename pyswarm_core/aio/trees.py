"""Removes directory trees whose content others chose: containers, images, users. SHELL.

`shutil.rmtree` recurses once per level and keeps a descriptor open for each, so a tree that is deep
enough ends in RecursionError or uses up the process's descriptors. A tree may also be deeper than
the longest path that the kernel accepts.
"""

import os
from contextlib import suppress
from pathlib import Path

_DEPTH = 32
"""Levels of recursion, and of open descriptors: few trees are deeper, and these cost one rename per
32 levels.
"""
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(top: Path) -> None:
    """Remove a directory and everything below it; a missing directory is no error.

    Removes as much as it can, then raises OSError if anything is left. It follows no symbolic link.
    """
    try:
        descriptor = os.open(top, _OPEN)
    except FileNotFoundError:
        return
    try:
        removal = _Removal(descriptor)
        removal.run()
    finally:
        os.close(descriptor)
    if error := removal.error:
        raise OSError(error.errno, error.strerror, f"{error.filename} in {top}") from error
    with suppress(FileNotFoundError):
        top.rmdir()


class _Removal:
    """The removal of what is below an open directory. Directories below `_DEPTH` levels are moved
    to the top, where the next pass removes them.
    """

    def __init__(self, top: int) -> None:
        self._top = top
        self._has_moved = False
        self.error: OSError | None = None
        """The first error of the last pass, which met everything that is left."""

    def run(self) -> None:
        self._has_moved = True
        while self._has_moved:
            self._has_moved, self.error = False, None
            self._empty(self._top, 0)

    def _empty(self, directory: int, depth: int) -> None:
        with os.scandir(directory) as listing:
            entries = list(listing)
        for entry in entries:
            try:
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.name, dir_fd=directory)
                elif depth < _DEPTH:
                    self._remove(entry.name, directory, depth + 1)
                else:
                    self._move_to_top(entry.name, directory)
            except FileNotFoundError:
                continue
            except OSError as error:
                self.error = self.error or error

    def _remove(self, name: str, parent: int, depth: int) -> None:
        descriptor = os.open(name, _OPEN, dir_fd=parent)
        try:
            self._empty(descriptor, depth)
        finally:
            os.close(descriptor)
        os.rmdir(name, dir_fd=parent)

    def _move_to_top(self, name: str, parent: int) -> None:
        # A random name cannot be that of an entry.
        os.rename(name, f".removed-{os.urandom(16).hex()}", src_dir_fd=parent, dst_dir_fd=self._top)
        self._has_moved = True
