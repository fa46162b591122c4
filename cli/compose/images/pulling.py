"""How `compose pull` pulls images, and records what it finds. SHELL.

A service that runs another digest of its tag gets a label with the one that was found; the next
`up` replaces its tasks.
"""

from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from cli.compose.deploying import images
from cli.compose.names import PULLED_LABEL
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import NotFound

if TYPE_CHECKING:
    from cli.client import Client
    from cli.compose.members import Member
    from pyswarm_core.images.views import InspectedImage
    from pyswarm_core.specs import ServiceSpec


def pull(client: "Client", image: str, *, quiet: bool) -> None:
    """Pull an image on all nodes. Raises Unavailable."""
    from cli.image.pull import follow, login_of
    from pyswarm_core.images.views import PullImage

    reference = parse_reference(image)
    login = login_of(reference)
    request = PullImage(
        str(reference),
        username=login.username if login else "",
        password=login.password if login else "",
    )
    if not quiet:
        click.echo(f"Pulling {reference.familiar}", err=True)
    follow(client, request, quiet=quiet)


def record(client: "Client", member: "Member", image: str) -> str:
    """Note the digest that the tag of the image has now, if it is another than the service runs.
    Returns it; empty: it is the same.
    """
    from cli.image import calls
    from cli.service.change import changed

    spec = member.service.spec
    before = images.digest_in(spec.task_template.container_spec.image)
    if parse_reference(images.written(spec)) != parse_reference(image):
        return ""  # the file has another image than the fleet
    try:
        found = calls.inspect(client, str(parse_reference(image)))
    except NotFound:
        return ""
    now = found_digest(found, before)
    if not now or now == before:
        return ""
    note = images.pulled_note(before, now)

    def noted(spec: "ServiceSpec") -> "ServiceSpec":
        return replace(spec, labels={**spec.labels, PULLED_LABEL: note})

    if spec.labels.get(PULLED_LABEL) != note:
        changed(client, member.service.id, noted)
    return now


def found_digest(found: "InspectedImage", before: str) -> str:
    """The digest of a pulled image. One image may have several, as that of a list of platforms: if
    the service's is among them, nothing is new.
    """
    known = {name.rpartition("@")[2] for name in found.names if "@" in name}
    return before if before in known else found.digest
