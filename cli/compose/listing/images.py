"""`pyswarm compose images`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from cli.compose import project
from cli.compose.verb import ProjectVerb
from cli.render.listing import Layout

if TYPE_CHECKING:
    from cli.compose.members import Held
    from cli.render.listing import Row
    from pyswarm_core.clock import Instant
    from pyswarm_core.images.views import Image, NodeImages

LAYOUT = Layout(
    headings={
        "ContainerName": "CONTAINER",
        "Repository": "REPOSITORY",
        "Tag": "TAG",
        "Platform": "PLATFORM",
        "ID": "IMAGE ID",
        "Size": "SIZE",
        "Created": "CREATED",
        "Digest": "DIGEST",
        "Node": "NODE",
    },
    columns=("ContainerName", "Repository", "Tag", "Platform", "ID", "Size", "Created"),
)


@click.command(
    "images",
    cls=ProjectVerb,
    help="List images used by the created containers\n\nExample: pyswarm compose images web",
)
@click.option(
    "--format", "form", default="table", metavar="FORMAT",
    help="Format the output. Values: [table | json] or a template (default table)",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Only display IDs")
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
def images(*, form: str, quiet: bool, services: tuple[str, ...]) -> None:
    from cli.compose.listing.ls import shown
    from cli.image import calls
    from cli.render.output import echo_lines
    from pyswarm_core.aio.system import SystemClock

    shown(LAYOUT, [], form, quiet=quiet)  # refuses a wrong format
    opened = project.opened()
    found = opened.containers(services, every=True)
    nodes = calls.images(opened.client) if found else []
    rows = rows_of(found, nodes, SystemClock().now())
    if quiet:
        rows = list({row["ID"]: row for row in rows if row["ID"]}.values())
    echo_lines(shown(LAYOUT, rows, form, quiet=quiet))


def rows_of(found: "Iterable[Held]", nodes: "Iterable[NodeImages]", now: "Instant") -> "list[Row]":
    """A row per container, with its image as its node has it, or else another node."""
    from cli.image.listing import created
    from pyswarm_core.docker.units import ago, decimal_size
    from pyswarm_core.images.names import repository_and_tag

    by_name: dict[tuple[str, str], Image] = {}
    for node in nodes:
        for each in node.images:
            for name in each.names:
                by_name[node.node_name, name] = each
                by_name.setdefault(("", name), each)
    rows: list[Row] = []
    for one in found:
        tagged, pinned = _names(one.view.image)
        at = one.view.node_name
        keys = ((at, pinned), ("", pinned)) if pinned else ((at, tagged),)
        image = next((by_name[key] for key in keys if key in by_name), None)
        repository, tag = repository_and_tag(tagged)
        made = created(image.created, now) if image is not None else None
        rows.append(
            {
                "ContainerName": one.name,
                "Repository": repository,
                "Tag": tag,
                "Platform": image.platform if image is not None else "",
                "ID": image.id.removeprefix("sha256:")[:12] if image is not None else "",
                "Size": decimal_size(image.size_bytes) if image is not None else "N/A",
                "Created": ago(made, now) if made is not None else "N/A",
                "Digest": pinned.rpartition("@")[2],
                "Node": at,
            }
        )
    return rows


def _names(text: str) -> tuple[str, str]:
    """The image by its tag, and by its digest as nodes have it; empty if it has none."""
    from pyswarm_core.docker.reference import parse_reference

    reference = parse_reference(text)
    pinned = f"{reference.name}@{reference.digest}" if reference.digest else ""
    return str(reference).partition("@")[0], pinned
