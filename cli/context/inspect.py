"""`pyswarm context inspect`."""

from typing import Any

import click

from cli import flags
from cli.context import store
from cli.context.model import DEFAULT, Context
from cli.context.show import selected_name
from cli.lazy import Verb
from pyswarm_core.docker import documents
from pyswarm_core.errors import NotFound

FILES = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem", "token": "token"}
"""Names of the credentials."""


@click.command(
    cls=Verb,
    help="Display information on one or more contexts, without their secrets\n\n"
    "Example: pyswarm context inspect --format '{{.Endpoints.docker.Host}}' production",
)
@flags.inspect_format
@click.argument("contexts", nargs=-1, metavar="[CONTEXT...]")
def inspect(*, form: str, contexts: tuple[str, ...]) -> None:
    found, missing = [], []
    for name in contexts or (selected_name(),):
        try:
            found.append(document(store.load(name)))
        except NotFound as error:
            missing.append(str(error))
    if found or not form:
        for line in documents.show(found, form):
            click.echo(line)
    if missing:
        raise NotFound("; ".join(missing))


def document(context: Context) -> dict[str, Any]:
    """As Docker's `context inspect`: the names of the credentials, not their content."""
    files = [file for key, file in FILES.items() if getattr(context.material, key)]
    folder = "<IN MEMORY>"
    if context.name != DEFAULT:
        folder = str(store.directory() / "contexts" / context.name)
    return {
        "Name": context.name,
        "Metadata": {"Description": context.description},
        "Endpoints": {"docker": {"Host": context.host, "SkipTLSVerify": False}},
        "TLSMaterial": {"docker": files} if files else {},
        "Storage": {"MetadataPath": folder, "TLSPath": folder},
    }
