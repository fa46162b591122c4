"""`pyswarm image prune`."""

from collections.abc import Iterable, Mapping, Sequence

import click

from cli import session
from cli.failures import Failures
from cli.lazy import Verb
from cli.verbs.pruning import Choice, chosen, filters_with
from cli.verbs.pruning import force as force_
from pyswarm_core.errors import invalid
from pyswarm_core.images.views import Image, NodeImageIds, NodeImages

_DANGLING = ("dangling=true", "dangling=false")
_WHICH = {
    False: "This will remove all dangling images.",
    True: "This will remove all images without at least one service or container that needs them.",
}


@click.command(
    cls=Verb,
    help="Remove unused images from all nodes: those without a tag; with --all every image that no"
    " service needs, or returns to by a rollback\n\n"
    "Example: pyswarm image prune --all --filter until=24h",
)
@click.option(
    "-a", "--all", "every", is_flag=True, help="Remove all unused images, not just dangling ones"
)
@force_
@filters_with(*_DANGLING)
def prune(*, every: bool, force: bool, filters: tuple[str, ...]) -> None:
    from cli.image import calls
    from cli.image.rm import show
    from pyswarm_core.docker.units import decimal_size

    every, choose = parsed(filters, every=every)
    connection = session.connection()
    with Failures() as failures:
        found = unused(calls.images(connection, every=every), failures, choose, every=every)
        if not force and not confirmed(found, every=every):
            return
        removed = []
        if found:
            asked = [NodeImageIds(node, ids_of(images)) for node, images in found.items()]
            removed = calls.prune(connection, asked)
        some = any(one.untagged or one.deleted for node in removed for one in node.images)
        if some:
            click.echo("Deleted Images:")
        for node in removed:
            show(node, failures, ("untagged", "deleted"))
        total = sum(image.reclaimed_bytes for node in removed for image in node.images)
        if some:
            click.echo()
        click.echo(f"Total reclaimed space: {decimal_size(total)}")


def parsed(filters: tuple[str, ...], *, every: bool) -> tuple[bool, Choice]:
    """Whether images with a tag are meant, and which pass the filters. Raises InvalidArgument."""
    others = []
    for text in filters:
        key, _, value = text.partition("=")
        if key != "dangling":
            others.append(text)
        elif value in ("true", "1", "false", "0"):
            every = value in ("false", "0")
        else:
            raise invalid("--filter", text, "expected dangling=true or dangling=false")
    return every, chosen(others, *_DANGLING)


def unused(
    nodes: Iterable[NodeImages], failures: Failures, choose: Choice, *, every: bool
) -> dict[str, list[Image]]:
    """By node, the images that no service needs, and no task there. A node that did not answer is
    a failure.
    """
    from cli.image.unneeded import unneeded
    from pyswarm_core.aio.system import SystemClock

    found: dict[str, list[Image]] = {}
    now = SystemClock().now()
    for node in nodes:
        if node.error:
            failures.of_node(node.node_name, node.error)
        if images := unneeded(node.images, choose, now, every=every):
            found[node.node_name] = images
    return found


def ids_of(images: Iterable[Image]) -> tuple[str, ...]:
    """Their ids."""
    return tuple(image.id for image in images)


def confirmed(found: Mapping[str, Sequence[Image]], *, every: bool) -> bool:
    """Show what would be removed, and ask."""
    from cli.image.listing import NONE, split
    from cli.render.listing import one_line
    from pyswarm_core.docker.units import decimal_size

    click.echo(f"WARNING! {_WHICH[every]}")
    for node, images in found.items():
        for image in images:
            names = [split(name) for name in image.names] or [(NONE, NONE, "")]
            names = [name for name in names if name[1]] or names[:1]
            shown = ", ".join(f"{repository}:{tag or NONE}" for repository, tag, _ in names)
            size = decimal_size(image.unique_bytes)
            click.echo(one_line(f"  {node}: {shown} {image.id[:12]} ({size})"))
    return click.confirm("Are you sure you want to continue?")
