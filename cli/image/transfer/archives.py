"""Archives of `docker save`: what is in one, and several as one. SHELL over tar files.

An archive is of anybody: it is read, never unpacked.
"""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from pyswarm_core.docker.reference import DEFAULT_TAG, parse_reference
from pyswarm_core.errors import InvalidArgument

_MANIFEST = "manifest.json"
_INDEX = "index.json"
_REPOSITORIES = "repositories"
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


def merge(archives: Sequence[Path], out: IO[bytes]) -> None:
    """Write one archive with the images of these, under Docker's short names. Layers that several
    have are written once.
    """
    written: set[str] = set()
    images: dict[str, dict[str, Any]] = {}
    layers: dict[str, dict[str, str]] = {}
    with tarfile.open(fileobj=out, mode="w|") as whole:
        for path in archives:
            with tarfile.open(path) as archive:
                for member in archive:
                    if member.name == _MANIFEST:
                        _add(images, _document(archive, member, []))
                    elif member.name == _REPOSITORIES:
                        for name, tags in _document(archive, member, {}).items():
                            layers.setdefault(_familiar(name, ":"), {}).update(tags)
                    elif member.name not in written:
                        written.add(member.name)
                        content = archive.extractfile(member) if member.isfile() else None
                        whole.addfile(member, content)
        _write(whole, _MANIFEST, list(images.values()))
        if layers:
            _write(whole, _REPOSITORIES, layers)


def _document(archive: tarfile.TarFile, member: tarfile.TarInfo, empty: Any) -> Any:
    file = archive.extractfile(member)
    return json.loads(file.read()) if file else empty


def _write(archive: tarfile.TarFile, name: str, document: Any) -> None:
    content = json.dumps(document).encode()
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _add(images: dict[str, dict[str, Any]], found: list[dict[str, Any]]) -> None:
    """Add entries; of one image under several names there is one entry, and of one without a name
    Docker's null.
    """
    for one in found:
        known = images.setdefault(one["Config"], {**one, "RepoTags": None})
        tags = [*(known["RepoTags"] or ()), *map(_familiar, one.get("RepoTags") or ())]
        known["RepoTags"] = list(dict.fromkeys(tags)) or None


def _familiar(name: str, end: str = "") -> str:
    """Docker's short form of the name: `web:1`; of a repository with `end` behind it, `web`."""
    try:
        return parse_reference(name).familiar.removesuffix(f"{end}{DEFAULT_TAG}" if end else "")
    except InvalidArgument:
        return name
