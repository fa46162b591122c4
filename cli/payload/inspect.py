"""`pyswarm secret inspect` and `pyswarm config inspect`."""

from typing import Any

import click

from cli import flags, inspection, session
from cli.lazy import Verb
from cli.render.listing import visible
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.kinds import CONFIG, SECRET, Kind
from pyswarm_core.payloads.documents import lines_of, of_payload


def _command(kind: Kind[Any, Any]) -> click.Command:
    note = ", with its data" if kind is CONFIG else ". Its data is never shown"

    @click.command(
        name="inspect",
        cls=Verb,
        help=f"Display detailed information on one or more {kind.name}s: the newest version, or"
        f" that of NAME@VERSION{note}\n\nExample: pyswarm {kind.name} inspect --pretty db@2",
    )
    @flags.inspect_format
    @flags.pretty
    @click.argument("refs", nargs=-1, required=True, metavar=f"{kind.name.upper()}...")
    def inspect(*, form: str, pretty: bool, refs: tuple[str, ...]) -> None:
        if pretty and form:
            raise InvalidArgument("--format is incompatible with human friendly format")
        client = session.connect()
        if pretty or form == "pretty":
            for ref in refs:
                for line in lines_of(client.object(kind, ref)):
                    click.echo("\t".join(map(visible, line.split("\t"))))
            return
        inspection.inspect_all(refs, form, lambda ref: of_payload(client.object(kind, ref)))

    return inspect


secret = _command(SECRET)
config = _command(CONFIG)
