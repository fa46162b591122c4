"""`pyswarm secret ls` and `pyswarm config ls`."""

import time
from collections.abc import Sequence
from typing import Any

import click

from cli import flags, session
from cli.lazy import Verb
from cli.render import listing
from cli.render.listing import Layout, Row
from cli.render.output import echo_lines
from pyswarm_core.clock import Instant
from pyswarm_core.docker.units import ago
from pyswarm_core.kinds import CONFIG, SECRET, Kind
from pyswarm_core.natural import natural
from pyswarm_core.payloads.payload import Payload, Secret

_HEADINGS = {
    "ID": "ID",
    "Name": "NAME",
    "Version": "VERSION",
    "CreatedAt": "CREATED",
    "UpdatedAt": "UPDATED",
    "Labels": "LABELS",
}
LAYOUTS = {
    "secret": Layout(
        {**_HEADINGS, "Driver": "DRIVER"}, ("ID", "Name", "Driver", "CreatedAt", "UpdatedAt")
    ),
    "config": Layout(_HEADINGS, ("ID", "Name", "CreatedAt", "UpdatedAt")),
}


def _command(kind: Kind[Any, Any]) -> click.Command:
    @click.command(
        name="ls",
        cls=Verb,
        help=f"List {kind.name}s, each with its newest version\n\n"
        f"Example: pyswarm {kind.name} ls --filter label=team=db"
        " --format '{{.Name}}@{{.Version}}'",
    )
    @click.option("-a", "--all", "every", is_flag=True, help="Show all versions")
    @flags.quiet_ids
    @flags.filter_
    @flags.format_
    def ls_(*, every: bool, quiet: bool, filters: tuple[str, ...], form: str) -> None:
        now = Instant(time.time_ns())
        asked = (*filters, "version=all") if every else filters
        found = session.connect().objects(kind, asked)
        layout = LAYOUTS[kind.name]
        if every:
            found = sorted(found, key=lambda one: (natural(one.spec.name), -one.number))
            layout = Layout(layout.headings, _with_version(layout.columns))
        echo_lines(listing.show(layout, [row(one, now) for one in found], form, quiet=quiet))

    return ls_


def _with_version(columns: Sequence[str]) -> tuple[str, ...]:
    at = columns.index("Name") + 1
    return (*columns[:at], "Version", *columns[at:])


def row(item: Payload, now: Instant) -> Row:
    """A row of the list."""
    labels = item.spec.labels
    return {
        "ID": item.id,
        "Name": item.spec.name,
        **({"Driver": ""} if isinstance(item, Secret) else {}),
        "Version": item.number,
        "CreatedAt": ago(item.created_at, now),
        "UpdatedAt": ago(item.updated_at, now),
        "Labels": ",".join(f"{key}={labels[key]}" for key in sorted(labels)),
    }


secret = _command(SECRET)
config = _command(CONFIG)
