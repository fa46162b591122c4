"""`pyswarm image rm` and `pyswarm rmi`."""

from typing import TYPE_CHECKING

import click

from cli import session
from cli.failures import Failures
from cli.image import refused
from cli.lazy import Verb
from pyswarm_core.errors import Conflict, NotFound, PermissionDenied
from pyswarm_core.images.views import NodeImagesRemoved

if TYPE_CHECKING:
    from cli.calls.connection import Connection
    from cli.image.finding import Identified
    from cli.registry.opening import Endpoint
    from pyswarm_core.docker.reference import Reference

_SHOWN = 5
_PLATFORM = "a node has an image for one platform; remove the image by its id"


@click.command(
    cls=Verb,
    help="Remove one or more images from all nodes and the fleet's registry\n\n"
    "An image that a service needs, or that its rollback returns to, stays.\n\n"
    "Example: pyswarm rmi web:1",
)
@click.option(
    "-f", "--force", is_flag=True, help="Force removal, except while a task uses the image"
)
@click.option(
    "--no-prune", is_flag=True, help="Do not delete untagged parents, the images of steps"
)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
def rm(*, force: bool, no_prune: bool, images: tuple[str, ...]) -> None:
    from cli.image import shared
    from cli.image.finding import require_reference
    from cli.render.listing import one_line

    for image in images:
        require_reference(image)
    connection = session.connection()
    with Failures() as failures, shared.opened_or_none(connection, write=True) as registry:
        for image in images:
            with failures.collected():
                try:
                    remove(connection, registry, image, failures, force=force, no_prune=no_prune)
                except NotFound as error:
                    if not force:
                        raise
                    click.echo(f"Error: {one_line(str(error))}", err=True)


rm.params.append(refused.valued("--platform", _PLATFORM, multiple=True))


def remove(
    connection: "Connection",
    registry: "Endpoint | None",
    text: str,
    failures: Failures,
    *,
    force: bool,
    no_prune: bool = False,
) -> None:
    """Remove an image from the nodes, and its tag from the fleet's registry; one that is named by
    its id with all its tags.
    """
    from cli.image import calls
    from cli.image.finding import identified, reference_or_none
    from cli.image.shared import PLACE, has_other_tag
    from cli.image.transfer import sources
    from pyswarm_core.images.views import RemoveImage

    reference = reference_or_none(text)
    there: list[Reference] = []
    of_nodes = ""
    if registry is not None and reference is not None:
        digest = sources.digest_of(registry, reference)
        there = [reference] if digest else []
        if digest and not has_other_tag(connection, reference, digest):
            of_nodes = digest  # its last tag: nodes that have the digest alone have no use for it
    if registry is not None and not there and (found := identified(connection, text)) is not None:
        text, there = found.id, _tags_of(found, force=force)
    try:
        for node in calls.remove(connection, RemoveImage(text, force, of_nodes, no_prune)):
            show(node, failures)
    except (NotFound, PermissionDenied):
        # Of a user who may write to the registry, but is limited to stacks: nodes belong to none.
        if not there:
            raise
    if registry is not None:
        for one in there:
            sources.delete(registry, one)
            click.echo(f"{PLACE}: Untagged: {one.familiar}")


def _tags_of(found: "Identified", *, force: bool) -> "list[Reference]":
    """The image's tags in the registry. Raises Conflict if they are of several repositories."""
    names = sorted({one.reference.name for one in found.tags})
    if len(names) > 1 and not force:
        raise Conflict(
            f"image {found.id[:12]} has names in several repositories"
            f" ({', '.join(names[:_SHOWN])}): remove it by its names, or with --force"
        )
    return [one.reference for one in found.tags]


def show(
    node: NodeImagesRemoved, failures: Failures, words: tuple[str, str] = ("Untagged", "Deleted")
) -> None:
    """Print what a node removed, and keep its failures."""
    from cli.render.listing import one_line

    for image in node.images:
        for line in lines(node.node_name, image.untagged, words[0]):
            click.echo(one_line(line))
        for gone in (image.id, *image.parents) if image.deleted else ():
            click.echo(one_line(f"{node.node_name}: {words[1]}: sha256:{gone}"))
        if image.error:
            failures.of_node(node.node_name, image.error)
    if node.error:
        failures.of_node(node.node_name, node.error)


def lines(node: str, names: tuple[str, ...], word: str) -> list[str]:
    """`host1: Untagged: web:1` for each name."""
    from cli.image.listing import split

    found = []
    for name in names:
        repository, tag, digest = split(name)
        found.append(f"{node}: {word}: {repository}{f':{tag}' if tag else f'@{digest}'}")
    return found
