"""Which images this host removes, in which order, and whether its disk is too full. PURE.

As kubelet's: an image that no task needs is removed once it was unused for the maximum age, or when
the disk is used up to the high threshold, the longest unused first, until the low one is reached.
The time that an image was unused counts while the agent runs, so a clock that is set does not
change it.
"""

from collections.abc import Collection, Iterable, Mapping

import msgspec

from agent.images.base import Image, LooseLayer
from pyswarm_core.clock import HOUR, MINUTE
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import InvalidArgument

LAYER_AGE_MIN = HOUR
"""A layer without an image may belong to a pull or a build that goes on."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """When images are removed: ages in nanoseconds (0: never by age), thresholds in percent of the
    disk (100: never for lack of space).
    """

    high: int = 85
    low: int = 80
    min_age: int = 2 * MINUTE
    max_age: int = 0


class Needed(msgspec.Struct, frozen=True):
    """What tasks of this host need: ids of images, and references in canonical form with the
    digests that they name.
    """

    ids: frozenset[str] = frozenset()
    references: frozenset[str] = frozenset()
    digests: frozenset[str] = frozenset()

    def has(self, image: Image) -> bool:
        """Whether the image is needed."""
        named = not self.references.isdisjoint(image.names)
        return named or image.id in self.ids or image.digest in self.digests


class Item(msgspec.Struct, frozen=True):
    """Something to remove: an image, or a layer without one."""

    id: str
    unused: int
    """Nanoseconds."""
    name: str = ""
    bytes: int = 0
    is_layer: bool = False


class Disk(msgspec.Struct, frozen=True):
    """The disk that has the images: percent in use of its bytes and of its inodes (0: it does not
    count them).
    """

    bytes_used: int
    inodes_used: int = 0

    @property
    def percent(self) -> int:
        """What is used most."""
        return max(self.bytes_used, self.inodes_used)

    @property
    def words(self) -> str:
        """`the disk of its images is 91% full`, for people."""
        if self.inodes_used > self.bytes_used:
            return f"the disk of its images has {self.inodes_used}% of its inodes in use"
        return f"the disk of its images is {self.bytes_used}% full"


Ages = dict[str, int]
"""For how long each image and loose layer was unused, by id, in nanoseconds."""


def aged(
    ages: Mapping[str, int],
    images: Iterable[Image],
    layers: Iterable[LooseLayer],
    needed: Needed,
    elapsed: int,
) -> Ages:
    """The ages after `elapsed` nanoseconds more: 0 of what is needed or new."""
    present = {one.id: needed.has(one) for one in images} | {one.id: False for one in layers}
    return {
        one: 0 if is_needed or one not in ages else ages[one] + elapsed
        for one, is_needed in present.items()
    }


def expired(items: Iterable[Item], policy: Policy) -> list[Item]:
    """The images that were unused for the maximum age, the longest unused first."""
    if not policy.max_age:
        return []
    return [one for one in items if not one.is_layer and one.unused >= policy.max_age]


def removable(
    ages: Mapping[str, int],
    images: Collection[Image],
    layers: Collection[LooseLayer],
    needed: Needed,
    policy: Policy,
) -> list[Item]:
    """What may be removed, in this order: layers without an image (children first, as they are
    given), then images, the longest unused first.
    """
    kept_age = max(policy.min_age, LAYER_AGE_MIN)
    loose = [
        Item(one.id, ages.get(one.id, 0), bytes=one.bytes, is_layer=True)
        for one in layers
        if ages.get(one.id, 0) >= kept_age
    ]
    found = [
        Item(one.id, ages.get(one.id, 0), name_of(one), one.unique_bytes)
        for one in images
        if not needed.has(one) and ages.get(one.id, 0) >= policy.min_age
    ]
    found.sort(key=lambda one: (-one.unused, one.id))
    return [*loose, *found]


def name_of(image: Image) -> str:
    """A name of the image for people, without the digest if it has a tag; `<none>` without one."""
    names = sorted(image.names, key=lambda name: ("@" in name, name))
    try:
        return parse_reference(names[0]).familiar if names else "<none>"
    except InvalidArgument:
        return names[0]


def is_full(disk: Disk, policy: Policy, *, was_full: bool) -> bool:
    """Whether the disk has no space for further images: from the high threshold on, until it is
    below the low one.
    """
    if policy.high >= 100:
        return False
    return disk.percent >= (policy.low if was_full else policy.high)


def pressure(disk: Disk, policy: Policy) -> str:
    """Why the host takes no further images, with what helps."""
    return (
        f"{disk.words} (limit {policy.high}%, again below {policy.low}%): to remove what is unused:"
        " pyswarm system prune --all"
    )
