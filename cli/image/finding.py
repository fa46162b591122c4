"""Which image a user means: of the nodes, else of the fleet's registry; by a name, a digest, or the
beginning of an id. SHELL.
"""

import re
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from cli.image import calls
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import (
    Conflict,
    InvalidArgument,
    NotFound,
    PyswarmError,
    Unavailable,
    quoted,
)
from pyswarm_core.images.views import ImageDetails, InspectedImage

if TYPE_CHECKING:
    from cli.calls.connection import Connection
    from cli.image.shared import Tagged
    from cli.registry.opening import Endpoint
    from pyswarm_core.docker.reference import Reference

_PREFIX = "sha256:"
_ID = re.compile(rf"(?:{_PREFIX})?([0-9a-f]{{4,64}})")
_SHOWN = 5


def inspected(connection: "Connection", text: str) -> InspectedImage:
    """The image of that name, digest or id. Raises NotFound if neither has it."""
    from cli.image.shared import opened_or_none

    try:
        return calls.inspect(connection, text)
    except NotFound:
        try:
            with opened_or_none(connection) as registry:
                place = meant(connection, registry, text).place if registry else None
                if registry and place is not None:
                    return _tagged(connection, registry, place)
        except Unavailable:
            pass  # the registry is one of the places that do not have it
        raise


class Meant(NamedTuple):
    """What a user means with a name, a digest, or the beginning of an id."""

    name: "Reference | None"
    """None: an id is meant."""
    place: "Reference | None"
    """Its name and digest in the fleet's registry; None: that does not have it."""
    ref: str
    """By which nodes know it: the name, or the whole id."""


def meant(connection: "Connection", registry: "Endpoint", text: str) -> Meant:
    """Look for the name in the registry, then for the id there and on the nodes. Raises Conflict
    for an ambiguous id.
    """
    from cli.image.transfer.sources import digest_of

    name = reference_or_none(text)
    if name is not None and (digest := digest_of(registry, name)):
        return Meant(name, name.pinned(digest), text)
    found = identified(connection, text)
    if found is None:
        return Meant(name, None, text)
    place = found.tags[0].reference.pinned(found.tags[0].digest) if found.tags else None
    return Meant(None, place, found.id)


def reference_or_none(text: str) -> "Reference | None":
    """The name; None if it can only be an id."""
    try:
        return parse_reference(text)
    except InvalidArgument:
        return None


def require_reference(text: str) -> None:
    """Raise InvalidArgument unless it is a name or the beginning of an id."""
    if not _ID.fullmatch(text):
        parse_reference(text)


class Identified(NamedTuple):
    """An image that is meant by its id."""

    id: str
    tags: "tuple[Tagged, ...]" = ()
    """Its tags in the fleet's registry."""


def identified(connection: "Connection", text: str) -> Identified | None:
    """The image of nodes, and of the fleet's registry, whose id begins so; None if there is none,
    or if it is the name of one. Raises Conflict for several.
    """
    from cli.image.shared import known, tagged

    if (match := _ID.fullmatch(text)) is None:
        return None
    reference = reference_or_none(text)
    name = str(reference) if reference is not None else ""
    images = [image for node in calls.images(connection) for image in node.images]
    tags = tagged(connection)
    if any(name in image.names for image in images) or any(str(t.reference) == name for t in tags):
        return None
    of_digest = known(connection, tags) if tags else {}
    ids: dict[str, tuple[Tagged, ...]] = {image.id.removeprefix(_PREFIX): () for image in images}
    for tag in tags:
        if tag.digest in of_digest and (image_id := of_digest[tag.digest].id):
            ids[image_id] = (*ids.get(image_id, ()), tag)
    found = [Identified(*one) for one in ids.items() if one[0].startswith(match[1])]
    if len(found) > 1:
        begins = ", ".join(sorted(one.id[:12] for one in found)[:_SHOWN])
        raise Conflict(f"image id {quoted(text)} is ambiguous: it begins {begins}")
    return found[0] if found else None


def _tagged(connection: "Connection", registry: "Endpoint", place: "Reference") -> InspectedImage:
    """The image that the registry has there: nodes may have it without the tag."""
    pinned = place.canonical
    try:
        found = calls.inspect(connection, pinned)
    except NotFound:
        found = _of_registry(registry, place, place.digest)
    tag = (f"{place.name}:{place.tag}",) if place.tag else ()
    names = dict.fromkeys((*found.names, *tag, pinned))
    return replace(found, names=tuple(sorted(names)))


def _of_registry(registry: "Endpoint", reference: "Reference", digest: str) -> InspectedImage:
    """From its manifest and configuration; of a list of platforms the first one. Its sizes are
    those of packed layers.
    """
    from cli.image.shared import PLACE, document
    from cli.image.transfer.sources import require
    from pyswarm_core.registry.names import repository_of

    path = f"/v2/{repository_of(reference)}"
    try:
        manifest = document(registry, f"{path}/manifests/{digest}")
        if "manifests" in manifest:
            first = manifest["manifests"][0]["digest"]
            manifest = document(registry, f"{path}/manifests/{first}")
        blob = str(manifest["config"]["digest"])
        sizes = tuple(int(layer["size"]) for layer in manifest.get("layers") or ())
    except (ValueError, LookupError, TypeError, AttributeError):
        raise PyswarmError(f"{reference.familiar}: its manifest cannot be read") from None
    answer = registry.ask("GET", f"{path}/blobs/{blob}")
    require(answer, "the fleet's registry")
    return InspectedImage(
        id=blob.removeprefix("sha256:"),
        digest=digest,
        size_bytes=sum(sizes),
        details=ImageDetails(answer.content, sizes),
        nodes=(PLACE,),
    )
