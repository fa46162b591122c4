"""Reads containers-storage's index and layers directly from its files; writes nothing.

The command containers-storage takes the storage's lock and so waits while a layer is unpacked,
which would delay every start on the host. The files are replaced by rename, so a reader without a
lock sees one complete version (docs/decisions/0009-image-storage-is-read-from-its-files.md).
Invariant: an image is returned only if its configuration and every layer exist.
"""

from base64 import b64encode
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from agent.images.base import Image, ImageBlob, InvalidImage, LooseLayer, Stored
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
        self._layer_index = root / "overlay-layers" / "layers.json"
        self._stamp: Stamp | None = None
        self._counted: tuple[Stamp | None, Stamp] | None = None
        self._records: dict[str, ImageRecord] = {}
        self._by_id: dict[str, ImageRecord] = {}
        self._layers: dict[str, LayerRecord] = {}
        self._images: dict[str, Image | None] = {}
        self._stored: Stored | None = None

    def find(self, reference: Reference) -> Image | None:
        """The complete image with that name; for a digest, any image with that manifest."""
        self._refresh()
        record = self._records.get(reference.canonical)
        if record is None and reference.digest:
            record = self._records.get(reference.digest)
        return self._image(record) if record else None

    def images(self) -> tuple[Image, ...]:
        """Every complete image, with or without a name, in the order of ids."""
        self._refresh()
        found = (self._image(record) for _, record in sorted(self._by_id.items()))
        return tuple(image for image in found if image)

    def stored(self) -> Stored:
        """Every complete image, and the layers that no image has, complete or not."""
        self._refresh()
        stamps = (self._stamp, _stamp(self._layer_index))
        if self._stored is None or stamps != self._counted:
            self._layers = parse_layers(_read(self._layer_index))
            self._stored, self._counted = self._count(), stamps
        return self._stored

    def _count(self) -> Stored:
        records = sorted(self._by_id.values(), key=lambda record: record.id)
        chains = {record.id: layer_chain(record.layer, self._layers) for record in records}
        users = Counter(layer.id for chain in chains.values() for layer in chain)
        images = tuple(
            replace(
                image,
                unique_bytes=sum(one.diff_size for one in chains[image.id] if users[one.id] == 1),
            )
            for record in records
            if (image := self._image(record))
        )
        loose = _children_first([one for one in self._layers.values() if one.id not in users])
        return Stored(
            images,
            tuple(LooseLayer(one.id, one.diff_size) for one in loose),
            sum(max(0, one.diff_size) for one in self._layers.values()),
        )

    def by_id(self, image_id: str) -> Image | None:
        """The complete image with that id."""
        self._refresh()
        record = self._by_id.get(image_id)
        return self._image(record) if record else None

    def blob(self, image_id: str) -> ImageBlob:
        """What it is made of; an empty configuration if there is no such image."""
        self._refresh()
        record = self._by_id.get(image_id)
        if record is None:
            return ImageBlob(config=b"")
        chain = reversed(layer_chain(record.layer, self._layers))
        sizes = tuple(layer.diff_size for layer in chain)
        return ImageBlob(config=self._config(record.id), layer_sizes=sizes)

    def _refresh(self) -> None:
        # The stamp is taken before reading: a change in between is then read the next time.
        stamp = _stamp(self._index)
        if stamp == self._stamp:
            return
        records = parse_images(_read(self._index))
        self._layers = parse_layers(_read(self._layer_index))
        before, self._by_id = self._by_id, {record.id: record for record in records}
        self._stored = None
        self._records = {record.digest: record for record in records if record.digest}
        self._records |= {name: record for record in records for name in record.names or ()}
        # The files of an image never change, so one whose record is the same is not read again.
        self._images = {
            one: image
            for one, image in self._images.items()
            if image and self._by_id.get(one) == before.get(one)
        }
        self._stamp = stamp

    def _image(self, record: ImageRecord) -> Image | None:
        if record.id not in self._images:
            self._images[record.id] = self._load(record)
        return self._images[record.id]

    def _load(self, record: ImageRecord) -> Image | None:
        blob = self._config(record.id)
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
            layer_bytes=tuple(max(0, layer.diff_size) for layer in chain),
            size_bytes=sum(layer.diff_size for layer in chain),
            created=configuration.created or "",
            architecture=configuration.architecture or "",
            os=configuration.os or "",
            variant=configuration.variant or "",
            parent=(configuration.parent or "").removeprefix("sha256:"),
        )

    def _config(self, image_id: str) -> bytes:
        return _read(self._root / "overlay-images" / image_id / _blob_name(image_id))

    def _link(self, layer: str) -> str:
        """The layer's short path; empty if its directory does not exist."""
        overlay = self._root / "overlay"
        name = _read(overlay / layer / "link").decode("ascii", "replace").strip()
        path = overlay / "l" / name
        return str(path) if name and path.is_dir() else ""


def _children_first(layers: Iterable[LayerRecord]) -> list[LayerRecord]:
    """The layers, each before the one that it lies on."""
    by_id = {layer.id: layer for layer in layers}
    ordered: dict[str, LayerRecord] = {}
    for layer in by_id.values():
        branch: list[LayerRecord] = []
        while layer.id not in ordered and layer not in branch:
            branch.append(layer)
            if layer.parent not in by_id:
                break
            layer = by_id[layer.parent]
        for one in reversed(branch):  # parents first; turned round at the end
            ordered.setdefault(one.id, one)
    return list(reversed(ordered.values()))


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
