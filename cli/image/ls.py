"""`pyswarm image ls`."""

from collections.abc import Iterator

import click

from cli import flags, session
from cli.failures import Failures
from cli.lazy import Verb
from cli.render import listing
from cli.render.listing import Layout, Row
from cli.render.output import echo_lines
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.clock import Instant
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.docker.units import ago, decimal_size, parse_time
from pyswarm_core.errors import InvalidArgument, Unavailable
from pyswarm_core.views import Image, NodeImages

LAYOUT = Layout(
    headings={
        "Node": "NODE",
        "Repository": "REPOSITORY",
        "Tag": "TAG",
        "ID": "IMAGE ID",
        "CreatedSince": "CREATED",
        "Size": "SIZE",
        "Digest": "DIGEST",
        "CreatedAt": "CREATED AT",
    },
    columns=("Node", "Repository", "Tag", "ID", "CreatedSince", "Size"),
)
NONE = "<none>"


@click.command(
    name="ls",
    cls=Verb,
    help="List the images on nodes\n\nExample: pyswarm image ls --filter node=host2",
)
@flags.quiet_ids
@flags.no_trunc
@flags.filter_
@flags.format_
def ls_(*, quiet: bool, no_trunc: bool, filters: tuple[str, ...], form: str) -> None:
    nodes = session.connect().images(filters)
    now = SystemClock().now()
    found = [row for node in nodes for row in rows(node, now, long=no_trunc)]
    if quiet:
        # An image that several nodes have is printed once.
        found = list({row["ID"]: row for row in found}.values())
    echo_lines(listing.show(LAYOUT, found, form, quiet=quiet))
    with Failures() as failures:
        for node in nodes:
            with failures.collected():
                if node.error:
                    raise Unavailable(f"{node.node_name}: {node.error}")


def rows(node: NodeImages, now: Instant, *, long: bool) -> Iterator[Row]:
    """A row per name of each image of a node."""
    for image in sorted(node.images, key=lambda image: image.names):
        for name in image.names or ("",):
            yield _row(node.node_name, image, name, now, long=long)


def _row(node: str, image: Image, name: str, now: Instant, *, long: bool) -> Row:
    repository, tag = _names(name)
    digits = image.id.removeprefix("sha256:")
    created = _created(image, now)
    return {
        "Node": node,
        "Repository": repository,
        "Tag": tag,
        "ID": f"sha256:{digits}" if long else digits[:12],
        "CreatedSince": ago(created, now) if created is not None else "N/A",
        "Size": decimal_size(image.size_bytes),
        "Digest": image.digest or NONE,
        "CreatedAt": image.created or "N/A",
    }


def _names(name: str) -> tuple[str, str]:
    try:
        familiar = parse_reference(name).familiar
    except InvalidArgument:
        return NONE, NONE
    head, _, digest = familiar.partition("@")
    repository, colon, tag = head.rpartition(":")
    if colon and "/" not in tag:
        return repository, tag
    return head, NONE if digest else "latest"


def _created(image: Image, now: Instant) -> Instant | None:
    try:
        return parse_time(image.created, now) if image.created else None
    except InvalidArgument:
        return None
