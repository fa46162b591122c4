"""Images of a build's steps, which lists leave out as Docker does. PURE."""

from collections import Counter
from collections.abc import Sequence

from agent.images.base import Image


def steps_of(images: Sequence[Image]) -> set[str]:
    """The ids of images without a name whose layers another image has: they take no space of their
    own, and are the cache of the build that made them.
    """
    tops = Counter(image.layers[0] for image in images if image.layers)
    below = {layer for image in images for layer in image.layers[1:]}
    return {
        image.id
        for image in images
        if image.layers
        and not image.names
        and (image.layers[0] in below or tops[image.layers[0]] > 1)
    }
