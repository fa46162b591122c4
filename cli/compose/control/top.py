"""`pyswarm compose top`."""

import click

from cli.compose import project
from cli.compose.verb import ProjectVerb
from cli.failures import Failures
from cli.render.listing import table, visible


@click.command(
    "top",
    cls=ProjectVerb,
    help="Display the running processes\n\nExample: pyswarm compose top web",
)
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
def top(*, services: tuple[str, ...]) -> None:
    opened = project.opened()
    from cli.container.control import calls

    titles: list[str] = []
    rows: list[list[str]] = []
    with Failures() as failures:
        for one in opened.containers(services):
            with failures.collected():
                found = calls.top(opened.client, one.view.id, ())
                titles = titles or ["SERVICE", "#", *found.titles]
                front = [one.service, str(one.number)]
                rows += [[*front, *map(visible, row.cells)] for row in found.rows]
        for line in table([titles, *rows]) if titles else ():
            click.echo(line)
