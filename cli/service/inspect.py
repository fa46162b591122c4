"""`pyswarm service inspect`."""

from typing import Any

import click

from cli import flags, inspection, session
from cli.lazy import Verb
from pyswarm_core.docker import documents
from pyswarm_core.objects import Service


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
            for line in service_lines(service, names):
                click.echo(line)
        return

    networks = inspection.Networks(client)
    inspection.inspect_all(services, form, lambda ref: document(client.service(ref), networks))


def document(service: Service, networks: inspection.Networks) -> dict[str, Any]:
    """The service with Docker's keys: the newest earlier spec is its PreviousSpec; it has a virtual
    address of each version that a network has.
    """
    found = documents.document(service)
    found["Endpoint"]["VirtualIPs"] = [
        {"NetworkID": vip.network_id, "Addr": address}
        for vip in service.endpoint.virtual_ips
        for address in networks.addresses(vip.network_id, vip.addr)
    ]
    previous = found.pop("PreviousSpecs")
    found["PreviousSpec"] = previous[0]["Spec"] if previous else None
    found["PreviousSpecs"] = previous
    return found
