"""`pyswarm service ls`."""

import click

from cli import flags, session
from cli.lazy import Verb
from cli.render import listing
from cli.render.listing import Layout, Row
from cli.render.output import echo_lines
from pyswarm_core.docker import ports
from pyswarm_core.ids import short
from pyswarm_core.specs import ReplicatedMode
from pyswarm_core.views import ServiceSummary

LAYOUT = Layout(
    headings={
        "ID": "ID",
        "Name": "NAME",
        "Mode": "MODE",
        "Replicas": "REPLICAS",
        "Image": "IMAGE",
        "Ports": "PORTS",
    },
    columns=("ID", "Name", "Mode", "Replicas", "Image", "Ports"),
)


@click.command(
    name="ls",
    cls=Verb,
    help="List services\n\nExample: pyswarm service ls --filter label=app=web",
)
@flags.quiet_ids
@flags.filter_
@flags.format_
def ls_(*, quiet: bool, filters: tuple[str, ...], form: str) -> None:
    found = session.connect().services(filters)
    long = quiet or bool(form)
    echo_lines(listing.show(LAYOUT, [row(s, long=long) for s in found], form, quiet=quiet))


def _desired(summary: ServiceSummary) -> int:
    """A stopped service keeps its number of replicas, though none of them is desired now."""
    spec = summary.service.spec
    if spec.stopped and isinstance(spec.mode, ReplicatedMode):
        return spec.mode.replicas
    return summary.desired


def row(summary: ServiceSummary, *, long: bool = False) -> Row:
    """A row of the list; ids are short in the table, as in Docker."""
    service = summary.service
    spec = service.spec
    placement = spec.task_template.placement
    replicas = f"{summary.running}/{_desired(summary)}"
    if spec.stopped:
        replicas += " (stopped)"
    if placement.max_replicas:
        replicas += f" (max {placement.max_replicas} per node)"
    if summary.quarantined:
        replicas += f" (quarantined: pyswarm why {short(service.id)})"
    image = spec.task_template.container_spec.image
    return {
        "ID": service.id if long else short(service.id),
        "Name": spec.name,
        "Mode": spec.mode.word,
        "Replicas": replicas,
        "Image": image.partition("@")[0],
        "Ports": ports.ingress_ports(service.endpoint.ports),
    }
