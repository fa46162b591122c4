"""`pyswarm events`."""

from collections.abc import Callable, Iterator

import click
import msgspec
from msgspec.structs import replace

from cli import flags, session
from cli.client import Client
from cli.lazy import Verb
from cli.render.listing import Row, one_line
from cli.streams.resuming import resumed
from cli.times import instant
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.clock import Instant
from pyswarm_core.docker.units import format_time
from pyswarm_core.errors import invalid
from pyswarm_core.views import Event, EventQuery

Printer = Callable[[Row], str]


@click.command(
    cls=Verb,
    help="Get real time events from the fleet\n\n"
    "Example: pyswarm events --since 10m --filter type=container --filter event=die",
)
@click.option("--since", default="", metavar="TIME", help="Show all events created since timestamp")
@click.option(
    "--since-revision",
    type=flags.Number(1, 2**63 - 1),
    metavar="NUMBER",
    help="Show all events of this revision of the store and later ones",
)
@click.option("--until", default="", metavar="TIME", help="Stream events until this timestamp")
@flags.filter_
@click.option(
    "--format", "form", default="", metavar="FORMAT", help="Format output: json or a Go template"
)
def events(
    *, since: str, since_revision: int | None, until: str, filters: tuple[str, ...], form: str
) -> None:
    show = _printer(form)
    if since and since_revision:
        raise click.UsageError("--since and --since-revision cannot be used together")
    start = instant("--since", since) if since else Instant(0)
    end = instant("--until", until) if until else Instant(0)
    if start and end and end < start:
        raise invalid("--until", until, f"expected a time after --since {since}")
    query = EventQuery(
        since=start,
        since_revision=since_revision or 0,
        until=end,
        filters=filters,
        follow=not end or end > SystemClock().now(),
    )
    client = session.connect()
    for event in followed(client, query) if query.follow else client.events(query):
        click.echo(show(row(event)))


def followed(client: Client, query: EventQuery) -> Iterator[Event]:
    """The events that were asked for, and under the next leader those that follow them."""
    seen: set[Event] = set()
    newest, began = 0, SystemClock().now()
    is_first = True

    def stream() -> Iterator[Event]:
        nonlocal is_first
        asked, is_first = (query if is_first else _after(query, newest, began)), False
        return client.events(asked)

    for event in resumed(client, stream):
        if event in seen:
            continue
        if event.revision > newest:
            newest = event.revision
            seen.clear()
        seen.add(event)
        yield event


def _after(query: EventQuery, newest: int, began: Instant) -> EventQuery:
    """What a stream that ended is to go on with: `newest` is its last revision, 0: none."""
    if newest:
        return replace(query, since=Instant(0), since_revision=newest)
    return query if query.since or query.since_revision else replace(query, since=began)


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
        "Node": event.node,
        "Container": event.container,
        "Stack": event.stack,
    }


def line(found: Row) -> str:
    """`TIME TYPE ACTION ID (name=web, reason=…)`, as Docker prints an event."""
    attributes = [f"name={found['Name']}"] if found["Name"] else []
    if found["Count"] > 1:
        attributes.append(f"count={found['Count']}")
    if found["Container"]:
        attributes.append(f"container={found['Container']}")
    if found["Node"]:
        attributes.append(f"node={found['Node']}")
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
