"""The images that the tasks of a host need, now and to roll back. PURE.

A record names them: the images of the container and of its mounts, and those of the other versions
that its service keeps. So an agent decides without a controller what it may remove.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable

from agent.images.base import Image
from agent.images.gc.plan import Needed
from agent.tasks.record import Record
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.templates.context import is_template


def needed(records: Iterable[Record]) -> Needed:
    """What these tasks need. Of an ended task nothing, unless a container may start again."""
    ids, references = set[str](), dict[str, None]()
    for record in records:
        if record.ended and record.clean and not record.layer:
            continue
        ids.update(one for one in (record.image_id, *record.mounted_images) if one)
        references.update(dict.fromkeys(_references(record)))
    named = tuple(map(_canonical, references))
    digests = (name.partition("@")[2] for name in named)
    return Needed(frozenset(ids), frozenset(named), frozenset(one for one in digests if one))


def users(records: Iterable[Record], images: Iterable[Image]) -> dict[str, tuple[str, ...]]:
    """By the id of an image, the names of the services and containers whose tasks here need it."""
    by_name = defaultdict[str, list[Record]](list)
    for record in records:
        by_name[record.service_name].append(record)
    of_each = {name: needed(own) for name, own in sorted(by_name.items())}
    return {
        image.id: tuple(name for name, what in of_each.items() if what.has(image))
        for image in images
    }


def reclaimable(images: Iterable[Image], used: Callable[[Image], bool]) -> int:
    """The bytes of layers that only images have which are not used."""
    bytes_of: dict[str, int] = {}
    kept: dict[str, None] = {}
    for image in images:
        bytes_of.update(zip(image.layers, image.layer_bytes, strict=False))
        if used(image):
            kept.update(dict.fromkeys(image.layers))
    return sum(size for layer, size in bytes_of.items() if layer not in kept)


def _references(record: Record) -> tuple[str, ...]:
    container = record.spec.container_spec
    mounted = (one.image for one in container.mounts if one.image)
    named = (container.image, *mounted, *record.kept_images)
    return tuple(one for one in named if one and not is_template(one))


def _canonical(reference: str) -> str:
    try:
        return parse_reference(reference).canonical
    except InvalidArgument:
        return reference
