"""`pyswarm stack ls`."""

from typing import TYPE_CHECKING

import click

from cli import flags, session
from cli.lazy import Verb
from cli.render import listing
from cli.render.listing import Layout
from cli.render.output import echo_lines

if TYPE_CHECKING:
    from cli.render.listing import Row
    from pyswarm_core.stacks.stack import Stack

LAYOUT = Layout(
    headings={"Name": "NAME", "Services": "SERVICES", "Version": "VERSION", "Status": "STATUS"},
    columns=("Name", "Services"),
    quiet="Name",
)


@click.command(name="ls", cls=Verb, help="List stacks\n\nExample: pyswarm stack ls --format json")
@click.option("-q", "--quiet", is_flag=True, help="Only display names")
@flags.format_
def ls_(*, quiet: bool, form: str) -> None:
    from cli.stack.calls import services_by_stack, stacks

    client = session.connect()
    known = {one.spec.name: one for one in stacks(client)}
    services = services_by_stack(client)
    rows = [_row(name, known.get(name), services[name]) for name in sorted({*known, *services})]
    echo_lines(listing.show(LAYOUT, rows, form, quiet=quiet))


def _row(name: str, stack: "Stack | None", services: int) -> "Row":
    """A stack of services that were created with its label alone has no version: 0."""
    return {
        "Name": name,
        "Services": services,
        "Version": stack.spec_version if stack is not None else 0,
        "Status": "removing" if stack is not None and stack.removing else "",
    }
