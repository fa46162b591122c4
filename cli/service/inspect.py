"""`pyswarm service inspect`."""

import click

from cli import flags, inspection, session
from cli.lazy import Verb
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.docker import objects
from pyswarm_core.errors import InvalidArgument


@click.command(
    cls=Verb,
    help="Display detailed information on one or more services\n\n"
    "Example: pyswarm service inspect web --format '{{.Spec.TaskTemplate.ContainerSpec.Image}}'",
)
@flags.inspect_format
@flags.pretty
@click.option(
    "--security",
    is_flag=True,
    help="Print which items of a security check-list the services follow",
)
@click.argument("services", nargs=-1, required=True, metavar="SERVICE...")
def inspect(*, form: str, pretty: bool, security: bool, services: tuple[str, ...]) -> None:
    if security and pretty:
        raise InvalidArgument("--security conflicts with --pretty: expected one of them")
    client = session.connect()
    if security:
        from cli.render.checklist import LAYOUT, rows
        from cli.render.listing import show

        specs = [client.service(ref).spec for ref in services]
        for line in show(LAYOUT, [row for spec in specs for row in rows(spec)], form):
            click.echo(line)
        return

    if pretty:
        from cli.render.pretty import service_lines

        for ref in services:
            service = client.service(ref)
            joined = service.spec.task_template.overlays
            names = {str(one): client.network(one).spec.name for one in joined}
            for line in service_lines(service, names, SystemClock().now()):
                click.echo(line)
        return

    addresses = inspection.Networks(client).addresses
    inspection.inspect_all(
        services, form, lambda ref: objects.of_service(client.service(ref), addresses)
    )
