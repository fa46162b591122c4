"""`pyswarm context ls`."""

import click

from cli import flags, session
from cli.context import store
from cli.context.model import DEFAULT, Context, select
from cli.context.show import selected_name
from cli.lazy import Verb
from cli.render import listing
from cli.render.listing import Layout, Row
from cli.render.output import echo_lines
from pyswarm_core.errors import PyswarmError

LAYOUT = Layout(
    headings={
        "Name": "NAME",
        "Description": "DESCRIPTION",
        "DockerEndpoint": "ENDPOINT",
        "Error": "ERROR",
        "Current": "CURRENT",
        "Credentials": "CREDENTIALS",
    },
    columns=("Name", "Description", "DockerEndpoint", "Credentials", "Error"),
    quiet="Name",
)


@click.command(
    name="ls",
    cls=Verb,
    help="List contexts\n\nExample: pyswarm context ls --format '{{.Name}} {{.DockerEndpoint}}'",
)
@flags.format_
@click.option("-q", "--quiet", is_flag=True, help="Only show context names")
def ls_(*, quiet: bool, form: str) -> None:
    current = selected_name()
    mark = not quiet and form in ("", "table")
    rows = [_row(name, is_current=name == current, mark=mark) for name in store.names()]
    echo_lines(listing.show(LAYOUT, rows, form, quiet=quiet))
    if mark and (host := select(session.given()).host):
        click.echo(
            f"warning: --host or PYSWARM_HOST ({host}) overrides the current context", err=True
        )


def _row(name: str, *, is_current: bool, mark: bool) -> Row:
    error = ""
    try:
        context = store.load(name)
    except PyswarmError as damage:
        context, error = Context(name=name, host=""), str(damage)
    description = "This host's own controller" if name == DEFAULT else context.description
    return {
        "Name": f"{name} *" if mark and is_current else name,
        "Description": description,
        "DockerEndpoint": context.host,
        "Credentials": _credentials(context),
        "Error": error,
        "Current": is_current,
    }


def _credentials(context: Context) -> str:
    if context.material.token:
        return "token"
    if context.material.cert:
        return "certificate"
    return "socket" if context.is_local else "none"
