"""`pyswarm context import`."""

import sys
from pathlib import Path

import click
from msgspec.structs import replace

from cli.context import archive, store
from cli.context.create import save
from cli.context.model import require_name
from cli.lazy import Verb
from pyswarm_core.errors import AlreadyExists, InvalidArgument, quoted, reason_of


@click.command(
    name="import",
    cls=Verb,
    help="Import a context from a tar archive FILE or STDIN\n\n"
    "Example: pyswarm context import production backup.tar",
)
@click.argument("name", metavar="CONTEXT")
@click.argument("file", metavar="FILE|-")
def import_(*, name: str, file: str) -> None:
    require_name(name)
    if store.exists(name):
        raise AlreadyExists(f"context {quoted(name)} already exists")
    save(replace(archive.unpacked(_content(file)), name=name))
    click.echo(name)
    click.echo(f'Successfully imported context "{name}"', err=True)


def _content(file: str) -> bytes:
    """At most one byte more than an archive may have."""
    limit = archive.ARCHIVE_MAX + 1
    if file == "-":
        return sys.stdin.buffer.read(limit)
    try:
        with Path(file).open("rb") as stream:
            return stream.read(limit)
    except OSError as error:
        raise InvalidArgument(f"FILE: {reason_of(error, file)}") from None
