"""Images of a build's steps, which lists leave out as Docker does. PURE."""

from collections import Counter
from collections.abc import Container, Sequence

from agent.images.base import Image


def steps_of(images: Sequence[Image]) -> set[str]:
    """The ids of images without a name that another image was made from, or whose layers another
    image has: they take no space of their own, and are the cache of the build that made them.
    """
    parents = {image.parent for image in images}
    tops = Counter(image.layers[0] for image in images if image.layers)
    below = {layer for image in images for layer in image.layers[1:]}
    return {
        image.id
        for image in images
        if not image.names
        and (
            image.id in parents
            or (image.layers and (image.layers[0] in below or tops[image.layers[0]] > 1))
        )
    }


def parents_of(image_id: str, images: Sequence[Image], in_use: Container[str] = ()) -> list[str]:
    """The ids of the images that have no use without this one, the nearest first: images of the
    steps that made it, up to one with a name, with another child or in use.
    """
    by_id = {image.id: image for image in images}
    children = Counter(image.parent for image in images)
    found: list[str] = []
    seen = {image_id}
    child = by_id.get(image_id)
    while child is not None and (parent := by_id.get(child.parent)) is not None:
        if parent.names or children[parent.id] > 1 or parent.id in in_use or parent.id in seen:
            break
        found.append(parent.id)
        seen.add(parent.id)
        child = parent
    return found
