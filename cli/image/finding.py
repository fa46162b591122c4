"""An image for `inspect` and `history`: of the nodes, else of the fleet's registry. SHELL."""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from cli.image import calls
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import InvalidArgument, NotFound, PyswarmError, Unavailable
from pyswarm_core.images.views import ImageDetails, InspectedImage

if TYPE_CHECKING:
    from cli.calls.connection import Connection
    from cli.registry.opening import Endpoint
    from pyswarm_core.docker.reference import Reference


def inspected(connection: "Connection", text: str) -> InspectedImage:
    """The image of that name, digest or id. Raises NotFound if neither has it."""
    from cli.image.shared import opened_or_none
    from cli.image.transfer.sources import digest_of

    try:
        return calls.inspect(connection, text)
    except NotFound:
        try:
            reference = parse_reference(text)
        except InvalidArgument:
            reference = None
        if reference is None:
            raise
        try:
            with opened_or_none(connection) as registry:
                digest = digest_of(registry, reference) if registry else ""
                if registry and digest:
                    return _tagged(connection, registry, reference, digest)
        except Unavailable:
            pass  # the registry is one of the places that do not have it
        raise


def _tagged(
    connection: "Connection", registry: "Endpoint", reference: "Reference", digest: str
) -> InspectedImage:
    """The image that the registry has by this digest: nodes may have it without the tag."""
    pinned = f"{reference.name}@{digest}"
    try:
        found = calls.inspect(connection, pinned)
    except NotFound:
        found = _of_registry(registry, reference, digest)
    names = dict.fromkeys((*found.names, reference.canonical, pinned))
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
