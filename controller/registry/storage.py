"""The registry's files, in the layout of the distribution. SHELL; its functions block, so they run
in threads.

The distribution has no request that removes one of several tags of an image, nor one for the bytes
that it uses.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from controller.registry.contents import MANIFEST_BYTES_MAX, Contents, Manifest, Repository
from pyswarm_core.aio.trees import remove_tree
from pyswarm_core.clock import Instant

_BASE = Path("docker/registry/v2")
_HEX = re.compile(r"[0-9a-f]{64}")
_LINK = re.compile(r"sha256:[0-9a-f]{64}")


class RegistryStorage:
    """The files below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._blobs = root / _BASE / "blobs" / "sha256"
        self._repositories = root / _BASE / "repositories"

    def contents(self) -> Contents:
        """What there is. Files that go meanwhile are left out."""
        blobs = dict(self._sizes())
        repositories = tuple(map(self._repository, self._names()))
        manifests: dict[str, Manifest] = {}
        for digest in {digest: None for one in repositories for digest in one.manifests}:
            if (manifest := self._manifest(digest)) is not None:
                manifests[digest] = manifest
        return Contents(repositories, manifests, blobs)

    def tags(self) -> list[tuple[str, str, str]]:
        """Each tag as repository, tag and digest."""
        return [
            (name, tag, digest)
            for name in self._names()
            for tag, digest in self._tags(self._repositories / name / "_manifests").items()
        ]

    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(size for _, size in self._sizes())

    def held(self) -> int:
        """Bytes of all blobs, and of uploads that have not ended: they stay for a day."""
        return self.size() + sum(self._uploads())

    def free(self) -> int:
        """Bytes that the disk has left."""
        disk = os.statvfs(self._root)
        return disk.f_bavail * disk.f_frsize

    def disk(self) -> tuple[int, int]:
        """Bytes of the disk, and those that it has left; both 0 before anything was pushed."""
        try:
            disk = os.statvfs(self._root)
        except FileNotFoundError:
            return 0, 0
        return disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize

    def remove_tag(self, repository: str, tag: str) -> bool:
        """Remove a tag; its image stays for other tags, and for services. Whether there was one."""
        folder = self._repositories / repository / "_manifests" / "tags" / tag
        if not folder.is_dir():
            return False
        remove_tree(folder)
        return True

    def taken_along(self, repository: str, digest: str) -> tuple[list[str], list[str]]:
        """What the removal of a manifest takes along: the tags of it and of the lists that have it,
        and the digests of those lists.
        """
        found = self._repository(repository)
        gone = [digest]
        for one in gone:  # it grows: a list may be part of a list
            for holder in found.manifests:
                manifest = self._manifest(holder) if holder not in gone else None
                if manifest and one in manifest.parts:
                    gone.append(holder)
        return [tag for tag, named in found.tags.items() if named in gone], gone[1:]

    def config_of(self, repository: str, tag: str) -> str:
        """The digest of the configuration of a tag's image, which is the image's id; empty if there
        is no such tag, or it is a list.
        """
        file = self._repositories / repository / "_manifests" / "tags" / tag / "current" / "link"
        try:
            link = file.read_text()
        except OSError:
            return ""
        manifest = self._manifest(link) if _LINK.fullmatch(link) else None
        return manifest.config.digest if manifest and manifest.config else ""

    def remove_manifests(self, gone: Iterable[tuple[str, str]]) -> None:
        """Remove manifests from repositories, and repositories without any."""
        for repository, digest in gone:
            digits = digest.removeprefix("sha256:")
            folder = self._repositories / repository / "_manifests"
            with suppress(FileNotFoundError):
                remove_tree(folder / "revisions" / "sha256" / digits)
            if not any(self._links(folder / "revisions" / "sha256")):
                self._remove_repository(repository)

    def _remove_repository(self, name: str) -> None:
        folder = self._repositories / name
        for part in ("_manifests", "_layers", "_uploads"):
            with suppress(OSError):
                remove_tree(folder / part)
        with suppress(OSError):  # other repositories are below it
            while folder != self._repositories:
                folder.rmdir()
                folder = folder.parent

    def _sizes(self) -> Iterator[tuple[str, int]]:
        for first in _entries(self._blobs):
            for blob in _entries(Path(first.path)):
                with suppress(OSError):
                    size = Path(blob.path, "data").stat().st_size
                    yield f"sha256:{blob.name}", size

    def _uploads(self) -> Iterator[int]:
        for folder, names, _ in os.walk(self._repositories):
            for upload in _entries(Path(folder, "_uploads")):
                with suppress(OSError):
                    yield Path(upload.path, "data").stat().st_size
            names[:] = [name for name in names if not name.startswith("_")]

    def _names(self) -> Iterator[str]:
        for folder, names, _ in os.walk(self._repositories):
            if "_manifests" in names:
                yield str(Path(folder).relative_to(self._repositories))
            names[:] = sorted(name for name in names if not name.startswith("_"))

    def _repository(self, name: str) -> Repository:
        folder = self._repositories / name / "_manifests"
        manifests = {
            f"sha256:{digits}": at for digits, at in self._links(folder / "revisions" / "sha256")
        }
        return Repository(name, self._tags(folder), manifests)

    def _tags(self, folder: Path) -> dict[str, str]:
        tags = {}
        for entry in _entries(folder / "tags"):
            with suppress(OSError):
                link = Path(entry.path, "current", "link").read_text()
                if _LINK.fullmatch(link):
                    tags[entry.name] = link
        return tags

    def _links(self, folder: Path) -> Iterator[tuple[str, Instant]]:
        """Digests, and when they were written; a removed one has a folder without a link."""
        for entry in _entries(folder):
            if _HEX.fullmatch(entry.name):
                with suppress(OSError):
                    found = Path(entry.path, "link").stat()
                    yield entry.name, Instant(found.st_mtime_ns)

    def _manifest(self, digest: str) -> Manifest | None:
        digits = digest.removeprefix("sha256:")
        file = self._blobs / digits[:2] / digits / "data"
        try:
            if file.stat().st_size > MANIFEST_BYTES_MAX:
                return None
            return msgspec.json.decode(file.read_bytes(), type=Manifest)
        except (OSError, msgspec.MsgspecError):
            return None


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError:
        return []
