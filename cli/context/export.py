"""`pyswarm context export`."""

import os
import sys

import click

from cli.context import archive, store
from cli.lazy import Verb
from pyswarm_core.errors import AlreadyExists, InvalidArgument, quoted


@click.command(
    cls=Verb,
    help="Export a context to a tar archive FILE or STDOUT\n\n"
    "The archive has the key or token of the context. FILE is NAME.pyswarmcontext by default.\n\n"
    "Example: pyswarm context export production backup.tar",
)
@click.argument("name", metavar="CONTEXT")
@click.argument("file", default="", metavar="[FILE|-]")
def export(*, name: str, file: str) -> None:
    content = archive.packed(store.load(name))
    if file == "-":
        if sys.stdout.isatty():
            raise InvalidArgument("FILE: an archive is not printed on a terminal, expected a path")
        sys.stdout.buffer.write(content)
        return
    path = file or f"{name}.pyswarmcontext"
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise AlreadyExists(f"FILE: {quoted(path)} exists, and is not overwritten") from None
    with os.fdopen(number, "wb") as stream:
        stream.write(content)
    click.echo(f'Written file "{path}"', err=True)
