"""Which images of a node nothing needs: what `image prune` and `system prune` remove. PURE."""

from collections.abc import Callable, Collection, Iterable, Mapping

from cli.image.listing import split
from cli.system.usage import created_at
from pyswarm_core.clock import Instant
from pyswarm_core.images.views import Image

Choice = Callable[[Instant, Mapping[str, str]], bool]
"""Whether an object with this time of creation and these labels passes the filters."""
_ROLLBACK = " (rollback)"


def unneeded(
    images: Iterable[Image],
    choose: Choice,
    now: Instant,
    *,
    every: bool,
    gone: Collection[str] = frozenset(),
) -> list[Image]:
    """Those that no service of the fleet needs, or returns to by a rollback, and no task of the
    node; with `every` also those with a tag. `gone`: containers that are removed before.
    """
    return [
        image
        for image in images
        if (every or not has_tag(image))
        and all(user in gone for user in users_of(image))
        and choose(created_at(image, now), image.labels)
    ]


def users_of(image: Image) -> list[str]:
    """The services and containers that need it, by name: on any node, and on this one."""
    found = (*(one.removesuffix(_ROLLBACK) for one in image.services), *image.used_by)
    return list(dict.fromkeys(found))


def has_tag(image: Image) -> bool:
    """Whether a name of it has a tag; services pull images by digest."""
    return any(tag for _, tag, _ in map(split, image.names))
