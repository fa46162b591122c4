"""Archives of `docker save`: what is in one, and several as one. SHELL over tar files.

An archive is of anybody: it is read, never unpacked.
"""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from pyswarm_core.errors import InvalidArgument

_MANIFEST = "manifest.json"
_INDEX = "index.json"
_MANIFEST_BYTES = 4 * 1024 * 1024
_NAME = "org.opencontainers.image.ref.name"
_FULL_NAME = "io.containerd.image.name"


class Entry(msgspec.Struct, frozen=True):
    """An image of an archive: how skopeo names it, and its names."""

    place: str
    names: tuple[str, ...] = ()


def entries(path: Path) -> list[Entry]:
    """The images of an archive of `docker save` or of an OCI layout, compressed or not.

    Raises InvalidArgument for a file that is none.
    """
    documents = _documents(path)
    try:
        if _MANIFEST in documents:
            found = json.loads(documents[_MANIFEST])
            return [
                Entry(f"docker-archive:{path}:@{number}", tuple(one.get("RepoTags") or ()))
                for number, one in enumerate(found)
            ]
        found = json.loads(documents[_INDEX])["manifests"]
        return [_oci(path, one) for one in found]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InvalidArgument(f"the archive is no archive of images: {error!r}") from None


def _oci(path: Path, entry: dict[str, Any]) -> Entry:
    notes = entry.get("annotations") or {}
    name = str(notes.get(_FULL_NAME) or notes.get(_NAME) or "")
    place = f"oci-archive:{path}:{notes[_NAME]}" if notes.get(_NAME) else f"oci-archive:{path}"
    return Entry(place, (name,) if name else ())


def _documents(path: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if name in (_MANIFEST, _INDEX) and member.isfile():
                    if member.size > _MANIFEST_BYTES:
                        raise InvalidArgument(f"the archive's {name} has {member.size} bytes")
                    file = archive.extractfile(member)
                    found[name] = file.read() if file else b""
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        why = str(error).partition(":\n- method")[0]  # of each form that it tried
        raise InvalidArgument(
            f"the file is no tar archive, or its compression is not gzip, bzip2 or xz: {why}"
        ) from None
    if not found:
        raise InvalidArgument("the archive has neither manifest.json nor index.json: it is none of"
                              " `docker save`")  # fmt: skip
    return found


def merged(archives: Sequence[Path], target: Path) -> Path:
    """One archive with the images of these, of which layers that several have are written once."""
    if len(archives) == 1:
        return archives[0]
    written: set[str] = set()
    images: dict[str, dict[str, Any]] = {}
    with tarfile.open(target, "w") as out:
        for path in archives:
            with tarfile.open(path) as archive:
                for member in archive:
                    if member.name == _MANIFEST:
                        file = archive.extractfile(member)
                        _add(images, json.loads(file.read() if file else b"[]"))
                    elif member.name != "repositories" and member.name not in written:
                        written.add(member.name)
                        content = archive.extractfile(member) if member.isfile() else None
                        out.addfile(member, content)
        manifest = json.dumps(list(images.values())).encode()
        entry = tarfile.TarInfo(_MANIFEST)
        entry.size = len(manifest)
        out.addfile(entry, io.BytesIO(manifest))
    return target


def _add(images: dict[str, dict[str, Any]], found: list[dict[str, Any]]) -> None:
    """Add entries; of one image under several names there is one entry."""
    for one in found:
        known = images.setdefault(one["Config"], {**one, "RepoTags": []})
        tags = [*(known["RepoTags"] or ()), *(one.get("RepoTags") or ())]
        known["RepoTags"] = list(dict.fromkeys(tags))
