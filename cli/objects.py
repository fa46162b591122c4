"""The commands of every kind of objects: `ls`, `inspect` and `rm`.

A kind whose lists or documents show more than names and times has a folder of its own instead.
"""

from functools import partial
from typing import Any

import click

from cli import flags, session
from cli.failures import for_each
from cli.lazy import Group, Verb
from cli.render import listing
from cli.render.listing import Layout, Row
from cli.render.output import echo_lines
from pyswarm_core.docker import documents
from pyswarm_core.docker.units import format_time
from pyswarm_core.kinds import KINDS, Id, Item, Kind

LAYOUT = Layout(
    headings={
        "ID": "ID",
        "Name": "NAME",
        "CreatedAt": "CREATED",
        "UpdatedAt": "UPDATED",
        "Labels": "LABELS",
    },
    columns=("ID", "Name", "CreatedAt", "UpdatedAt"),
)


def group(name: str) -> click.Group | None:
    """The commands of a kind; None if there is no kind of that name."""
    if (kind := KINDS.get(name)) is None:
        return None
    verbs = [list_command(kind), inspect_command(kind), remove_command(kind)]
    return Group(name, help=f"Manage {name}s", commands=verbs)


def list_command(kind: Kind[Item, Id]) -> click.Command:
    """`ls` of a kind."""

    @click.command(name="ls", cls=Verb, help=f"List {kind.name}s")
    @flags.quiet_ids
    @flags.filter_
    @flags.format_
    def ls_(*, quiet: bool, filters: tuple[str, ...], form: str) -> None:
        rows = [row(kind, item) for item in session.connect().objects(kind, filters)]
        echo_lines(listing.show(LAYOUT, rows, form, quiet=quiet))

    return ls_


def inspect_command(kind: Kind[Any, Any]) -> click.Command:
    """`inspect` of a kind."""

    @click.command(
        name="inspect", cls=Verb, help=f"Display detailed information on one or more {kind.name}s"
    )
    @flags.inspect_format
    @click.argument("refs", nargs=-1, required=True, metavar=f"{kind.name.upper()}...")
    def inspect(*, form: str, refs: tuple[str, ...]) -> None:
        from cli import inspection

        client = session.connect()
        inspection.inspect_all(refs, form, lambda ref: documents.document(client.object(kind, ref)))

    return inspect


def remove_command(kind: Kind[Any, Any]) -> click.Command:
    """`rm` of a kind."""

    @click.command(name="rm", cls=Verb, help=f"Remove one or more {kind.name}s")
    @click.argument("refs", nargs=-1, required=True, metavar=f"{kind.name.upper()}...")
    def rm(*, refs: tuple[str, ...]) -> None:
        client = session.connect()
        for_each(refs, partial(client.remove_object, kind))

    return rm


def row(kind: Kind[Item, Id], item: Item) -> Row:
    """A row of the list."""
    labels = kind.labels(item)
    return {
        "ID": item.id,
        "Name": kind.title(item),
        "CreatedAt": format_time(item.created_at),
        "UpdatedAt": format_time(item.updated_at),
        "Labels": ",".join(f"{key}={labels[key]}" for key in sorted(labels)),
    }
