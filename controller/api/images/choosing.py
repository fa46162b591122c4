"""Which images of the nodes a name means, and what is left of them. PURE.

Names are those that agents report: `docker.io/library/web:1`, `…@sha256:…`. A user's reference is
looked up as Docker does: as a name first, then as the beginning of an id.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from controller.api.images.users import User, Users
from pyswarm_core.clock import Instant
from pyswarm_core.docker.reference import Reference, parse_reference
from pyswarm_core.docker.units import parse_time
from pyswarm_core.errors import Conflict, InvalidArgument, NotFound, quoted
from pyswarm_core.images.views import Image, ImageDeletion

_ID = re.compile(r"(?:sha256:)?([0-9a-f]{4,64})")
_SHOWN = 5


class Wanted(NamedTuple):
    """What a reference may mean; `digest` is one that is known for its name."""

    text: str
    reference: Reference | None
    id_part: str
    digest: str = ""

    @property
    def digests(self) -> frozenset[str]:
        """Digests of manifests that it means."""
        own = self.reference.digest if self.reference else ""
        return frozenset(digest for digest in (own, self.digest) if digest)


def wanted(text: str, digest: str = "") -> Wanted:
    """Parse a name, digest or id. Raises InvalidArgument."""
    is_id = _ID.fullmatch(text)
    try:
        reference = parse_reference(text)
    except InvalidArgument:
        if is_id is None:
            raise
        reference = None
    if digest and reference is not None:
        reference.pinned(digest)  # raises InvalidArgument for what is no digest
    return Wanted(text, reference, is_id[1] if is_id else "", digest)


def is_named(image: Image, want: Wanted) -> bool:
    """Whether the image has the name, or a digest that is meant. In other repositories the digest
    is another name.
    """
    ref = want.reference
    if ref is None:
        return False
    if ref.canonical in image.names:
        return True
    by_digest = {f"{ref.name}@{digest}" for digest in want.digests}
    if not by_digest.isdisjoint(image.names):
        return True
    is_of_it = not image.names or ref.name in map(_repository, image.names)
    return is_of_it and image.digest in want.digests


def meant(images: Iterable[Image], want: Wanted) -> set[str]:
    """The ids of the images that are meant. Raises NotFound, and Conflict for an id that is
    ambiguous.
    """
    images = list(images)
    named = {image.id for image in images if is_named(image, want)}
    if named:
        return named
    part = want.id_part
    found = {one.id for one in images if part and _digits(one.id).startswith(part)}
    if not found:
        raise NotFound(f"No such image: {quoted(want.text)}")
    if len(found) > 1:
        ids = ", ".join(sorted(_digits(one)[:12] for one in found)[:_SHOWN])
        raise Conflict(f"image id {quoted(want.text)} is ambiguous: it begins {ids}")
    return found


def newest(images: Sequence[Image], ids: set[str]) -> str:
    """Of several images that had the name, the id of the one that most nodes have, then of the
    newest.
    """

    def rank(one: str) -> tuple[int, str, str]:
        same = [image for image in images if image.id == one]
        return len(same), same[0].created, one

    return max(ids, key=rank)


def tags(image: Image) -> list[str]:
    """Its names that are no digests."""
    return [name for name in image.names if "@" not in name]


def users_of(image: Image, users: Users) -> list[User]:
    """Who needs the image, by any of its names or its digest."""
    names, digest = tuple(image.names), image.digest
    keys = dict.fromkeys(names)
    if digest:
        keys.update(dict.fromkeys(f"{_repository(name)}@{digest}" for name in names))
    return [user for key in keys if key in users for user in users[key]]


# Removal


def deletion(image: Image, want: Wanted) -> ImageDeletion | None:
    """What is removed of an image that is meant; None: nothing.

    Digests of a repository go with its last tag, as they do in Docker.
    """
    ref = want.reference
    if ref is None or not is_named(image, want):
        return ImageDeletion(image.id)
    mine = {name for name in image.names if name == ref.canonical}
    if set(tags(image)) - mine:
        return ImageDeletion(image.id, tuple(sorted(mine))) if mine else None
    gone = mine | {name for name in image.names if name.startswith(f"{ref.name}@")}
    left = set(image.names) - gone
    return ImageDeletion(image.id, tuple(sorted(gone)) if left else ())


def require_removable(images: Sequence[Image], want: Wanted, users: Users, *, force: bool) -> None:
    """Raise Conflict if a service needs one of these images, or if an id has names in several
    repositories, unless `force`.
    """
    if force:
        return
    needed: dict[str, None] = {}
    for image in images:
        needed.update(_needed(image, deletion(image, want), users))
        repositories = {_repository(name) for name in image.names}
        if not is_named(image, want) and len(repositories) > 1:
            raise Conflict(
                f"image {_digits(image.id)[:12]} has names in several repositories"
                f" ({', '.join(sorted(repositories)[:_SHOWN])}): remove it by its names, or with"
                " --force"
            )
    if not images and want.reference is not None:
        needed.update(_of_names(want.reference, users))
    if needed:
        raise in_use(want.text, list(needed))


def in_use(text: str, needed: Sequence[str]) -> Conflict:
    """The error of an image that services need."""
    more = f" and {len(needed) - _SHOWN} more" if len(needed) > _SHOWN else ""
    return Conflict(
        f"image {text} is needed by {'; '.join(needed[:_SHOWN])}{more}: remove or update what needs"
        " it, or use --force"
    )


def _needed(image: Image, gone: ImageDeletion | None, users: Users) -> dict[str, None]:
    """Who needs the image, if it goes; of a name that goes alone, whose spec has it."""
    if gone is None:
        return {}
    every = users_of(image, users)
    if gone.names:
        every = [user for user in every if _tagged(user.reference) in gone.names]
        every += [user for name in gone.names for user in users.get(name, ())]
    return dict.fromkeys(user.sentence for user in every)


def _tagged(reference: Reference) -> str:
    """The reference without its digest."""
    return f"{reference.name}:{reference.tag}" if reference.tag else ""


def _of_names(ref: Reference, users: Users) -> Iterator[tuple[str, None]]:
    """Who has the name in its spec, with any digest."""
    for some in users.values():
        for user in some:
            if (user.reference.name, user.reference.tag) == (ref.name, ref.tag) and ref.tag:
                yield user.sentence, None


def created_at(image: Image) -> Instant | None:
    """When the image was made; None if it does not say."""
    try:
        return parse_time(image.created, Instant(0)) if image.created else None
    except InvalidArgument:
        return None


def _digits(image_id: str) -> str:
    return image_id.removeprefix("sha256:")


def _repository(name: str) -> str:
    """A name without its tag or digest."""
    head = name.partition("@")[0]
    slash = head.rfind("/")
    colon = head.find(":", slash + 1)
    return head if colon < 0 else head[:colon]
