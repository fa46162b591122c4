"""`pyswarm image tag` and `pyswarm tag`."""

import click

from cli import session
from cli.lazy import Verb
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import invalid


@click.command(
    cls=Verb,
    help="Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE, in the fleet's registry\n\n"
    "Example: pyswarm tag web:1 registry.example.com/team/web:1",
)
@click.argument("source", metavar="SOURCE_IMAGE[:TAG]")
@click.argument("target", metavar="TARGET_IMAGE[:TAG]")
def tag(*, source: str, target: str) -> None:
    from cli.image.finding import require_reference
    from cli.image.transfer import skopeo, sources
    from cli.registry.opening import opened

    require_reference(source)
    named = parse_reference(target)
    if named.digest:
        raise invalid("TARGET_IMAGE", target, "expected a name without a digest")
    connection = session.connection()
    failure = f"{named.familiar} could not be tagged"
    with (
        skopeo.folder() as folder,
        opened(connection, write=True) as registry,
        sources.found(connection, registry, source, folder) as found,
    ):
        sources.copy(found, sources.to_registry(registry, named), failure)
