"""`pyswarm compose version`."""

import json

import click

from cli.compose import verb
from cli.flags import Choice


@click.command(
    "version",
    cls=verb.ProjectVerb,
    help="Show the pyswarm compose version information\n\nExample: pyswarm compose version --short",
)
@click.option(
    "-f", "--format", "form", type=Choice(["pretty", "json"]), default="pretty",
    help="Format the output. Values: [pretty | json] (default pretty)",
)  # fmt: skip
@click.option("--short", is_flag=True, help="Shows only pyswarm's version number")
def version(*, form: str, short: bool) -> None:
    from pyswarm_core.version import version as own

    if short:
        click.echo(own())
    elif form == "json":
        click.echo(json.dumps({"version": own()}))
    else:
        click.echo(f"pyswarm compose version {own()}")
