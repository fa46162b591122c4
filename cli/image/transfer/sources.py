"""Where an image is: in the fleet's registry, or on a node alone. SHELL."""

import json
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from cli.image.transfer import skopeo
from pyswarm_core.docker.reference import Reference
from pyswarm_core.errors import Conflict, NotFound, Unavailable
from pyswarm_core.registry.names import repository_of
from pyswarm_core.streams.requests import SaveImageRequest

if TYPE_CHECKING:
    from cli.calls.connection import Connection
    from cli.registry.opening import Answer, Endpoint
    from pyswarm_core.specs import RegistryLogin

MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
ACCEPT = {"Accept": ", ".join(MANIFESTS)}
AT_ONCE = 8
"""Requests of one command."""
_PAGES_MAX = 1_000


class Source(NamedTuple):
    """What skopeo copies, and the flags that reach it."""

    place: str
    flags: tuple[str, ...] = ()
    is_registry: bool = False
    name: str = ""
    """With which it was asked for; empty: a digest or an id."""


def digest_of(registry: "Endpoint", reference: Reference) -> str:
    """The digest that the fleet's registry has for it; empty if it has none. Raises Unavailable."""
    which = reference.digest or reference.tag
    answer = registry.ask("HEAD", f"/v2/{repository_of(reference)}/manifests/{which}", ACCEPT)
    if answer.status == 404:
        return ""
    require(answer, "the fleet's registry")
    return answer.headers.get("docker-content-digest", "")


def delete(registry: "Endpoint", reference: Reference) -> None:
    """Remove a tag, or with its digest an image, from the fleet's registry. Raises Conflict while
    a service needs it.
    """
    which = reference.digest or reference.tag
    answer = registry.ask("DELETE", f"/v2/{repository_of(reference)}/manifests/{which}")
    if answer.status == 409:
        raise Conflict(f"{reference.familiar} in the fleet's registry: {said(answer.content)}")
    if answer.status != 404:
        require(answer, "the fleet's registry")


@contextmanager
def found(
    connection: "Connection", registry: "Endpoint", text: str, folder: Path
) -> Iterator[Source]:
    """The image in the fleet's registry, else an archive of it that a node sends. `text`: its name,
    digest or id.

    Raises NotFound, in Docker's words, if it is nowhere, and Conflict for an ambiguous id.
    """
    from cli.image.finding import meant

    image = meant(connection, registry, text)
    name = str(image.name) if image.name and not image.name.digest else ""
    if image.place is not None:
        flags = ("--src-tls-verify=false", "--src-authfile", str(registry.authfile))
        place = f"docker://{registry.reference(image.place)}"
        yield Source(place, flags, is_registry=True, name=name)
        return
    archive = folder / "image.tar"
    try:
        receive(connection, SaveImageRequest(ref=image.ref, names=(name,) if name else ()), archive)
    except NotFound:
        if image.name is None:
            raise NotFound(f"No such image: {text}") from None
        shown = image.name.familiar
        raise NotFound(f"An image does not exist in the fleet with the tag: {shown}") from None
    try:
        yield Source(f"docker-archive:{archive}", name=name)
    finally:
        archive.unlink(missing_ok=True)


def receive(connection: "Connection", request: SaveImageRequest, archive: Path) -> None:
    """Write the archive of an image of a node to a file. Raises NotFound if no node has it."""
    from cli.registry import loop
    from cli.streams.copying import receive as received

    with archive.open("xb") as file:

        async def write(data: bytes) -> None:
            file.write(data)

        loop.run(received(connection, request, write))


def login_file(login: "RegistryLogin | None", folder: Path) -> Path:
    """A file with just this login, for skopeo's --authfile; without a login an empty one."""
    auths = {}
    if login is not None:
        pair = b64encode(f"{login.username}:{login.password}".encode()).decode("ascii")
        auths = {login.registry: {"auth": pair}}
    path = folder / "login.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"auths": auths}))
    return path


def copy(source: Source, destination: Sequence[str], failure: str, *, shown: bool = False) -> None:
    """Copy it: of a list of platforms all, with the same digests. Raises PyswarmError."""
    whole = ("--all", "--preserve-digests") if source.is_registry else ()
    skopeo.run(["copy", *whole, *source.flags, *destination[:-1], source.place, destination[-1]],
               failure, shown=shown)  # fmt: skip


def to_registry(registry: "Endpoint", reference: Reference) -> tuple[str, ...]:
    """The flags and the place of an image in the fleet's registry, as a destination."""
    flags = ("--dest-tls-verify=false", "--dest-authfile", str(registry.authfile))
    return (*flags, f"docker://{registry.reference(reference)}")


def tags_of(registry: "Endpoint", reference: Reference) -> list[str]:
    """The tags of a repository of the fleet's registry. Raises NotFound."""
    repository = repository_of(reference)
    found: list[str] = []
    for page in pages(registry, f"/v2/{repository}/tags/list?n=1000"):
        found += [tag for tag in page.get("tags") or () if isinstance(tag, str)]
    return sorted(found)


def catalog(registry: "Endpoint") -> list[str]:
    """The repositories of the fleet's registry."""
    found: list[str] = []
    for page in pages(registry, "/v2/_catalog?n=1000"):
        found += [name for name in page.get("repositories") or () if isinstance(name, str)]
    return found


def pages(registry: "Endpoint", path: str) -> Iterator[dict[str, Any]]:
    """The pages of a list."""
    for _ in range(_PAGES_MAX):
        answer = registry.ask("GET", path)
        if answer.status == 404:
            return
        require(answer, "the fleet's registry")
        yield json.loads(answer.content)
        path = following(answer.headers.get("link", ""))
        if not path:
            return


def following(link: str) -> str:
    """The path in a header `Link: </v2/…>; rel="next"`; empty if there is none."""
    target, _, rest = link.partition(";")
    if 'rel="next"' not in rest:
        return ""
    parts = urlsplit(target.strip().strip("<>"))
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def require(answer: "Answer", who: str) -> None:
    """Raise Unavailable with the registry's own reason unless the answer is one of success."""
    if answer.status >= 300:
        raise Unavailable(f"{who} answers {answer.status}: {said(answer.content)}")


def said(content: bytes) -> str:
    """The reason in an answer of a registry: its errors' messages, else its text."""
    text = content.decode(errors="replace")
    try:
        errors = json.loads(text)["errors"]
        found = [f"{one.get('code', '')}: {one.get('message', '')}".strip(": ") for one in errors]
        text = "; ".join(found) or text
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    return " ".join(text.split()) or "without a reason"
