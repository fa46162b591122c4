"""`pyswarm compose export`."""

import click

from cli.compose import project
from cli.compose.control.logs import INDEX
from cli.compose.verb import ProjectVerb
from cli.container.files.export import require_output, write


@click.command(
    "export",
    cls=ProjectVerb,
    help="Export a service container's filesystem as a tar archive\n\n"
    "Example: pyswarm compose export --output web.tar web",
)
@INDEX
@click.option(
    "-o", "--output", default="", metavar="FILE",
    help="Write to a file, instead of STDOUT",
)  # fmt: skip
@click.argument("service")
def export(*, index: int, output: str, service: str) -> None:
    require_output(output)
    opened = project.opened()
    write(opened.client, opened.one(service, index, every=True).view.id, output)
