"""`pyswarm image push` and `pyswarm push`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import session
from cli.image import refused
from cli.lazy import Verb
from pyswarm_core.docker.reference import Reference, parse_reference
from pyswarm_core.errors import NotFound, invalid

if TYPE_CHECKING:
    from cli.calls.connection import Connection
    from cli.registry.opening import Endpoint


@click.command(
    cls=Verb,
    help="Upload an image of the fleet to the registry in its name\n\n"
    "The login is that of `pyswarm login` or `docker login`.\n\n"
    "Example: pyswarm push registry.example.com/team/web:1",
)
@click.option("-a", "--all-tags", is_flag=True, help="Push all tags of an image to the repository")
@click.option(
    "--platform",
    default="",
    metavar="OS[/ARCH[/VARIANT]]",
    help="Push a platform-specific manifest as a single-platform image to the registry",
)
@click.option("-q", "--quiet", is_flag=True, help="Suppress verbose output")
@click.argument("name", metavar="NAME[:TAG]")
def push(*, all_tags: bool, platform: str, quiet: bool, name: str) -> None:
    from cli.image.transfer import skopeo, sources
    from cli.registry.opening import opened
    from cli.service.spec.logins import login_for

    image = parse_reference(name)
    if image.digest:
        raise invalid("NAME", name, "expected a name without a digest")
    if all_tags and name.endswith(f":{image.tag}"):
        raise invalid("NAME", name, "expected a name without a tag, as --all-tags is given")
    connection = session.connection()
    if not quiet:
        click.echo(f"The push refers to repository [{image.name}]")
    with skopeo.folder() as folder, opened(connection) as registry:
        login = sources.login_file(login_for(image, os.environ), folder)
        tags = sources.tags_of(registry, image) if all_tags else [image.tag]
        if not tags:
            raise NotFound(f"An image does not exist in the fleet with the name: {image.name}")
        for tag in tags:
            one = Reference(image.registry, image.repository, tag)
            digest = push_tag(connection, registry, one, login, platform=platform, quiet=quiet)
            click.echo(str(one) if quiet else f"{tag}: digest: {digest}")


push.params.append(refused.trust())


def push_tag(
    connection: "Connection",
    registry: "Endpoint",
    image: Reference,
    login: Path,
    *,
    platform: str = "",
    quiet: bool,
) -> str:
    """Copy one tag; returns its digest. Raises PyswarmError with the registry's reason."""
    from cli.image.transfer import skopeo, sources

    folder = login.parent
    note = folder / "digest"
    flags = (*skopeo.tls(image.registry, "dest-"), "--dest-authfile", str(login))
    flags = (*flags, "--digestfile", str(note))
    failure = f"{image.familiar} could not be pushed"
    with sources.found(connection, registry, str(image), folder) as found:
        to = (*flags, f"docker://{image}")
        if platform:
            one = [*skopeo.platform_flags(platform), "copy", *found.flags, *to[:-1]]
            skopeo.run([*one, found.place, to[-1]], failure, shown=not quiet)
        else:
            sources.copy(found, to, failure, shown=not quiet)
    return note.read_text().strip()
