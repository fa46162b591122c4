"""`pyswarm events`."""

from collections.abc import Callable

import click
import msgspec

from cli import flags, session
from cli.lazy import Verb
from cli.render.listing import Row, one_line
from cli.times import instant
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.docker.units import format_time
from pyswarm_core.errors import invalid
from pyswarm_core.views import Event

Printer = Callable[[Row], str]


@click.command(
    cls=Verb,
    help="Get real time events from the fleet\n\n"
    "Example: pyswarm events --since 10m --filter type=node",
)
@click.option("--since", default="", metavar="TIME", help="Show all events created since timestamp")
@click.option("--until", default="", metavar="TIME", help="Stream events until this timestamp")
@flags.filter_
@click.option(
    "--format", "form", default="", metavar="FORMAT", help="Format output: json or a Go template"
)
def events(*, since: str, until: str, filters: tuple[str, ...], form: str) -> None:
    show = _printer(form)
    start = instant("--since", since) if since else 0
    end = instant("--until", until) if until else 0
    if start and end and end < start:
        raise invalid("--until", until, f"expected a time after --since {since}")
    stream = session.connect().events(
        since=start,
        until=end,
        filters=filters,
        follow=not end or end > SystemClock().now(),
    )
    for event in stream:
        click.echo(show(row(event)))


def row(event: Event) -> Row:
    """The event's placeholders."""
    return {
        "Time": format_time(event.at),
        "Revision": event.revision,
        "Type": event.type,
        "Action": event.action,
        "ID": event.id,
        "Name": event.name,
        "Reason": event.reason,
        "Count": event.count,
        "Caller": event.caller,
    }


def line(found: Row) -> str:
    """`TIME TYPE ACTION ID (name=web, reason=…)`, as Docker prints an event."""
    attributes = [f"name={found['Name']}"] if found["Name"] else []
    if found["Count"] > 1:
        attributes.append(f"count={found['Count']}")
    if found["Caller"]:
        attributes.append(f"caller={found['Caller']}")
    if found["Reason"]:
        attributes.append(f"reason={found['Reason']}")
    inside = f" ({', '.join(attributes)})" if attributes else ""
    return one_line(f"{found['Time']} {found['Type']} {found['Action']} {found['ID']}{inside}")


def _printer(form: str) -> Printer:
    if not form:
        return line
    if form == "json":
        return lambda found: msgspec.json.encode(dict(found)).decode()
    from pyswarm_core.gotemplate.evaluate import render
    from pyswarm_core.gotemplate.parse import parse

    nodes = parse(form)
    render(nodes, row(Event("", "")))
    return lambda found: render(nodes, found)
