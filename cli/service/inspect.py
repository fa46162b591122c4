"""`pyswarm service inspect`."""

import click

from cli import flags, inspection, session
from cli.lazy import Verb
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.docker import objects


@click.command(
    cls=Verb,
    help="Display detailed information on one or more services\n\n"
    "Example: pyswarm service inspect web --format '{{.Spec.TaskTemplate.ContainerSpec.Image}}'",
)
@flags.inspect_format
@flags.pretty
@click.argument("services", nargs=-1, required=True, metavar="SERVICE...")
def inspect(*, form: str, pretty: bool, services: tuple[str, ...]) -> None:
    client = session.connect()
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
