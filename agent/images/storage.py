"""Reads containers-storage's index and layers directly from its files; writes nothing.

The command containers-storage takes the storage's lock and so waits while a layer is unpacked,
which would delay every start on the host. The files are replaced by rename, so a reader without a
lock sees one complete version (docs/decisions/0009-image-storage-is-read-from-its-files.md).
Invariant: an image is returned only if its configuration and every layer exist.
"""

from base64 import b64encode
from pathlib import Path

from agent.images.base import Image, InvalidImage
from agent.images.imageconfig import (
    ImageRecord,
    LayerRecord,
    layer_chain,
    parse_configuration,
    parse_images,
    parse_layers,
)
from pyswarm_core.docker.reference import Reference

Stamp = tuple[int, int, int]
_ABSENT: Stamp = (0, 0, 0)


class Storage:
    """The images under one storage root. A lookup costs one stat if nothing changed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._index = root / "overlay-images" / "images.json"
        self._stamp: Stamp | None = None
        self._records: dict[str, ImageRecord] = {}
        self._layers: dict[str, LayerRecord] = {}
        self._images: dict[str, Image | None] = {}

    def find(self, reference: Reference) -> Image | None:
        """The complete image with that name; for a digest, any image with that manifest."""
        self._refresh()
        record = self._records.get(reference.canonical)
        if record is None and reference.digest:
            record = self._records.get(reference.digest)
        return self._image(record) if record else None

    def images(self) -> tuple[Image, ...]:
        """Every complete image with a name, in the order of ids."""
        self._refresh()
        records = {record.id: record for record in self._records.values() if record.names}
        found = (self._image(record) for _, record in sorted(records.items()))
        return tuple(image for image in found if image)

    def _refresh(self) -> None:
        # The stamp is taken before reading: a change in between is then read the next time.
        stamp = _stamp(self._index)
        if stamp == self._stamp:
            return
        records = parse_images(_read(self._index))
        self._layers = parse_layers(_read(self._root / "overlay-layers" / "layers.json"))
        self._records = {record.digest: record for record in records if record.digest}
        self._records |= {name: record for record in records for name in record.names or ()}
        self._images = {}
        self._stamp = stamp

    def _image(self, record: ImageRecord) -> Image | None:
        if record.id not in self._images:
            self._images[record.id] = self._load(record)
        return self._images[record.id]

    def _load(self, record: ImageRecord) -> Image | None:
        blob = _read(self._root / "overlay-images" / record.id / _blob_name(record.id))
        chain = layer_chain(record.layer, self._layers)
        links = tuple(self._link(layer.id) for layer in chain)
        if not blob or (record.layer and not chain) or not all(links):
            return None
        try:
            configuration = parse_configuration(blob)
        except InvalidImage:
            return None
        return Image(
            id=record.id,
            digest=record.digest,
            names=tuple(sorted(record.names or ())),
            layers=links,
            config=configuration.run,
            size_bytes=sum(layer.diff_size for layer in chain),
            created=configuration.created or "",
            architecture=configuration.architecture or "",
            os=configuration.os or "",
        )

    def _link(self, layer: str) -> str:
        """The layer's short path; empty if its directory does not exist."""
        overlay = self._root / "overlay"
        name = _read(overlay / layer / "link").decode("ascii", "replace").strip()
        path = overlay / "l" / name
        return str(path) if name and path.is_dir() else ""


def _blob_name(image_id: str) -> str:
    # containers-storage encodes names that are not safe file names; a colon is not safe.
    return "=" + b64encode(f"sha256:{image_id}".encode()).decode("ascii")


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except FileNotFoundError:
        return _ABSENT
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
