"""`pyswarm compose events`."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import click

from cli.compose import project
from cli.compose.verb import ProjectVerb
from cli.times import instant
from pyswarm_core.clock import Instant
from pyswarm_core.errors import invalid

if TYPE_CHECKING:
    from pyswarm_core.views import Event


@click.command(
    "events",
    cls=ProjectVerb,
    help="Receive real time events from containers\n\n"
    "Example: pyswarm compose events --json --since 10m web",
)
@click.option("--json", "as_json", is_flag=True, help="Output events as a stream of json objects")
@click.option("--since", default="", metavar="TIME", help="Show all events created since timestamp")
@click.option("--until", default="", metavar="TIME", help="Stream events until this timestamp")
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
def events(*, as_json: bool, since: str, until: str, services: tuple[str, ...]) -> None:
    from cli.verbs.events import followed
    from pyswarm_core.aio.system import SystemClock
    from pyswarm_core.views import EventQuery

    start = instant("--since", since) if since else Instant(0)
    end = instant("--until", until) if until else Instant(0)
    if start and end and end < start:
        raise invalid("--until", until, f"expected a time after --since {since}")
    opened = project.opened()
    opened.chosen(services)
    query = EventQuery(
        since=start,
        until=end,
        filters=("type=container",),
        follow=not end or end > SystemClock().now(),
    )
    names = {one.service.spec.name: one.name for one in opened.members}
    names |= {one.view.id: one.name for one in opened.containers(every=True)}
    client = opened.client
    stream = followed(client, query) if query.follow else client.events(query)
    for one in of_project(stream, opened.name, names):
        if not services or one.service in services:
            click.echo(as_json_line(one) if as_json else line(one))


class Shown(NamedTuple):
    """An event of a container of the project."""

    event: "Event"
    service: str
    name: str
    """Compose's name of the container."""


def of_project(stream: "Iterator[Event]", name: str, known: Mapping[str, str]) -> Iterator[Shown]:
    """The events of a project. `known` has short names of services by the full ones, and names of
    containers by their ids; those that come later are named by Compose's rules.
    """
    from cli.compose.names import container_name

    for event in stream:
        if event.stack != name:
            continue
        full, _, place = event.name.rpartition(".")
        service = known.get(full or event.name) or full.removeprefix(f"{name}_")
        shown = known.get(event.id, event.name)
        if full and place.isdecimal():
            shown = container_name(name, service, int(place))
        yield Shown(event, service, shown)


def line(one: Shown) -> str:
    """`TIME container die ID (name=shop-web-1, service=web)`, as Compose prints an event."""
    from cli.render.listing import one_line
    from pyswarm_core.docker.units import format_time

    when = format_time(one.event.at)[:26].replace("T", " ")
    given = {"name": one.name, "service": one.service, **_more(one)}
    inside = ", ".join(f"{key}={value}" for key, value in given.items() if value)
    return one_line(f"{when} container {one.event.action} {one.event.id} ({inside})")


def as_json_line(one: Shown) -> str:
    """The same as an object, with Compose's keys."""
    import msgspec

    from pyswarm_core.docker.units import format_time

    given = {"name": one.name, **_more(one)}
    document = {
        "action": one.event.action,
        "attributes": {key: value for key, value in given.items() if value},
        "id": one.event.id,
        "service": one.service,
        "time": format_time(one.event.at),
        "type": "container",
    }
    return msgspec.json.encode(document).decode()


def _more(one: Shown) -> Mapping[str, str]:
    event = one.event
    count = str(event.count) if event.count > 1 else ""
    return {"node": event.node, "count": count, "reason": event.reason}
