"""`pyswarm export`."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

import click

from cli import session
from cli.lazy import Verb
from pyswarm_core.errors import InvalidArgument, NotFound, quoted

if TYPE_CHECKING:
    from cli.client import Client


@click.command(
    cls=Verb,
    help="Export a container's filesystem as a tar archive\n\n"
    "Example: pyswarm export --output web.tar web.1",
)
@click.option(
    "-o", "--output", default="", metavar="FILE", help="Write to a file, instead of STDOUT"
)
@click.argument("container")
def export(*, output: str, container: str) -> None:
    require_output(output)
    write(session.connect(), container, output)


def require_output(output: str) -> None:
    """Raise InvalidArgument for an archive that would go to a terminal, NotFound for a file that
    cannot be made.
    """
    if not output and sys.stdout.isatty():
        raise InvalidArgument(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect"
        )
    parent = Path(output).absolute().parent
    if not parent.is_dir():
        raise NotFound(f"--output: no such directory: {quoted(str(Path(output).parent))}")
    if output and Path(output).is_dir():
        raise InvalidArgument(f"--output: value {quoted(output)} is not valid: it is a directory")


def write(client: "Client", container: str, output: str) -> None:
    """Write the archive to a file, or without a name to standard output."""
    from cli.container.files import local

    if not output:
        local.export(client, container, sys.stdout.fileno())
        return
    target = Path(output)
    if target.exists() and not target.is_file():
        with target.open("wb", buffering=0) as file:
            local.export(client, container, file.fileno())
        return
    # A file is there once it is complete.
    draft = target.with_name(f".{target.name}.{token_hex(4)}")
    try:
        with open(draft, "xb", buffering=0, opener=_private) as file:
            local.export(client, container, file.fileno())
        draft.replace(target)
    finally:
        with suppress(OSError):
            draft.unlink()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
