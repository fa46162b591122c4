"""`pyswarm user ls`."""

import click

from cli import flags, session
from cli.lazy import Verb
from cli.render import listing
from cli.render.listing import Layout, Row
from cli.render.output import echo_lines
from pyswarm_core.docker.units import format_time
from pyswarm_core.identity.users import User
from pyswarm_core.ids import short
from pyswarm_core.kinds import USER

LAYOUT = Layout(
    headings={
        "ID": "USER ID",
        "Name": "NAME",
        "Role": "ROLE",
        "Stacks": "STACKS",
        "Labels": "LABELS",
        "CreatedAt": "CREATED AT",
        "UpdatedAt": "UPDATED AT",
    },
    columns=("ID", "Name", "Role", "Stacks"),
)


@click.command(
    name="ls",
    cls=Verb,
    help="List users\n\nExample: pyswarm user ls --filter role=admin",
)
@flags.quiet_ids
@flags.no_trunc
@flags.filter_
@flags.format_
def ls_(*, quiet: bool, no_trunc: bool, filters: tuple[str, ...], form: str) -> None:
    rows = [row(user, long=no_trunc) for user in session.connect().objects(USER, filters)]
    echo_lines(listing.show(LAYOUT, rows, form, quiet=quiet))


def row(user: User, *, long: bool) -> Row:
    """A row of the list."""
    labels = user.spec.labels
    return {
        "ID": user.id if long else short(user.id),
        "Name": user.spec.name,
        "Role": str(user.spec.role),
        "Stacks": ",".join(user.spec.stacks),
        "Labels": ",".join(f"{key}={labels[key]}" for key in sorted(labels)),
        "CreatedAt": format_time(user.created_at),
        "UpdatedAt": format_time(user.updated_at),
    }
