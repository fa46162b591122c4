"""The disk of a node's images, as its agent reports it when it is full. PURE.

While it is full, the node gets only tasks whose images it has. An image is named by a key of a few
bytes: that of its digest, or of its name with a tag.
"""

from bisect import bisect_left
from collections.abc import Iterable
from hashlib import sha256

from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.images.limits import DISK_IMAGES_MAX, DISK_REASON_MAX
from pyswarm_core.model import Model

KEY_BYTES = 8


class ImageDisk(Model, frozen=True):
    """Why the node takes no further images; empty while it does. `images`: the keys of those that
    it has, each KEY_BYTES, in order.
    """

    reason: str = ""
    images: bytes = b""

    def has(self, key: bytes) -> bool:
        """Whether the node has the image with this key."""
        places = range(len(self.images) // KEY_BYTES)
        at = bisect_left(places, key, key=self._key_at)
        return at < len(places) and self._key_at(at) == key

    def _key_at(self, place: int) -> bytes:
        return self.images[place * KEY_BYTES : (place + 1) * KEY_BYTES]


def image_key(reference: str) -> bytes:
    """The key of a reference; empty if it is none, as of a template."""
    try:
        ref = parse_reference(reference)
    except InvalidArgument:
        return b""
    return _key(ref.digest or ref.canonical)


def image_disk(reason: str, images: Iterable[tuple[str, tuple[str, ...]]]) -> ImageDisk:
    """The report of a full disk with these images: of each its digest and its names."""
    keys: dict[bytes, None] = {}
    for digest, names in images:
        keys.update(dict.fromkeys(map(image_key, names)))
        if digest:
            keys[_key(digest)] = None
    keys.pop(b"", None)
    return ImageDisk(reason[:DISK_REASON_MAX], b"".join(sorted(keys)[:DISK_IMAGES_MAX]))


def checked(told: ImageDisk) -> ImageDisk:
    """What is kept of a report: an agent is not trusted."""
    length = min(len(told.images), DISK_IMAGES_MAX * KEY_BYTES) // KEY_BYTES * KEY_BYTES
    reason = told.reason[:DISK_REASON_MAX]
    printable = "".join(c if c.isprintable() else " " for c in reason)
    return ImageDisk(printable, told.images[:length]) if printable else ImageDisk()


def _key(text: str) -> bytes:
    return sha256(text.encode()).digest()[:KEY_BYTES]
