"""`pyswarm secret rm` and `pyswarm config rm`."""

from functools import partial
from typing import Any

import click

from cli import session
from cli.failures import for_each
from cli.lazy import Verb
from pyswarm_core.kinds import CONFIG, SECRET, Kind


def _command(kind: Kind[Any, Any]) -> click.Command:
    @click.command(
        name="rm",
        cls=Verb,
        help=f"Remove one or more {kind.name}s with all their versions, or older versions by"
        f" NAME@VERSION. One that a service uses is not removed\n\n"
        f"Example: pyswarm {kind.name} rm db",
    )
    @click.argument("refs", nargs=-1, required=True, metavar=f"{kind.name.upper()}...")
    def rm(*, refs: tuple[str, ...]) -> None:
        client = session.connect()
        for_each(refs, partial(client.remove_object, kind))

    return rm


secret = _command(SECRET)
config = _command(CONFIG)
