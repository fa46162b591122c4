"""`pyswarm net trace`."""

import re

import click

from cli import flags, session
from cli.exits import ExitCode
from cli.lazy import Verb
from cli.render import listing
from cli.render.listing import Layout, Row, one_line
from cli.render.output import echo_lines
from pyswarm_core.clock import MILLISECOND
from pyswarm_core.errors import not_valid
from pyswarm_core.traces import Hop

LAYOUT = Layout(
    headings={
        "Hop": "HOP",
        "Place": "PLACE",
        "State": "STATE",
        "Time": "TIME",
        "Found": "FOUND",
        "Remedy": "REMEDY",
    },
    columns=("Hop", "Place", "State", "Time", "Found"),
)
_PORT_MAX = 65535
_TARGET = re.compile(r"([^:\[\]]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5})(?:/(tcp|udp))?)?", re.ASCII)


@click.command(
    cls=Verb,
    help="Trace the route between two tasks, hop by hop\n\n"
    "The trace ends at the first broken hop and prints a remedy. FROM is a task, or a service (its"
    " first running task). TO is a task, a service, a name or an address. PORT/udp traces UDP."
    " PORT defaults to the first port that the service publishes or its image exposes.\n\n"
    "The exit code is 1 if a hop is broken.\n\n"
    "Example: pyswarm net trace web.1 db:5432",
)
@flags.format_
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO[:PORT[/PROTOCOL]]")
@click.pass_context
def trace(ctx: click.Context, *, form: str, source: str, target: str) -> None:
    to, port, udp = split(target)
    hops = session.connect().trace_network(source, to, port, udp=udp)
    echo_lines(listing.show(LAYOUT, [row(hop) for hop in hops], form))
    last = hops[-1]
    if not last.ok:
        if form in ("", "table"):
            click.echo(f"\n{last.hop} is broken at {one_line(last.place)}.")
            click.echo(f"Remedy: {one_line(last.remedy)}")
        ctx.exit(ExitCode.FAILURE)


def split(target: str) -> tuple[str, int, bool]:
    """Parse `db:5432/udp` into db, 5432, True. Port 0: none is given."""
    if target.count(":") > 1 and not target.startswith("["):
        return target, 0, False
    match = _TARGET.fullmatch(target)
    if match is None or (match[2] and not 0 < int(match[2]) <= _PORT_MAX):
        raise click.UsageError(
            not_valid("TO", target, "expected TO, TO:PORT or TO:PORT/udp, PORT 1 to 65535")
        )
    return match[1].strip("[]"), int(match[2] or 0), match[3] == "udp"


def row(hop: Hop) -> Row:
    """A row of the list."""
    return {
        "Hop": hop.hop,
        "Place": hop.place,
        "State": "ok" if hop.ok else "broken",
        "Time": f"{hop.elapsed / MILLISECOND:.2f}ms" if hop.elapsed else "",
        "Found": hop.found,
        "Remedy": hop.remedy,
    }
