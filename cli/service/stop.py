"""`pyswarm service stop`."""

from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from cli import flags
from cli.lazy import Verb
from cli.service.change import change_each, changed
from pyswarm_core.objects import Service
from pyswarm_core.specs import ServiceSpec

if TYPE_CHECKING:
    from cli.client import Client


@click.command(
    cls=Verb,
    help="Stop one or more services and wait for their tasks to end; the number of replicas is"
    " kept\n\nExample: pyswarm service stop web db",
)
@flags.detach
@flags.quiet_progress
@click.argument("services", nargs=-1, required=True, metavar="SERVICE...")
def stop(*, detach: bool, quiet: bool, services: tuple[str, ...]) -> None:
    change_each(services, _stop, detach=detach, quiet=quiet)


def _stop(client: "Client", ref: str) -> Service:
    def stopped(spec: ServiceSpec) -> ServiceSpec:
        return replace(spec, stopped=True)

    return changed(client, ref, stopped)
