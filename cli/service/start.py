"""`pyswarm service start`."""

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
    help="Start one or more stopped services and wait for them to converge\n\n"
    "Example: pyswarm service start web db",
)
@flags.detach
@flags.quiet_progress
@click.argument("services", nargs=-1, required=True, metavar="SERVICE...")
def start(*, detach: bool, quiet: bool, services: tuple[str, ...]) -> None:
    change_each(services, _start, detach=detach, quiet=quiet)


def _start(client: "Client", ref: str) -> Service:
    def started(spec: ServiceSpec) -> ServiceSpec:
        return replace(spec, stopped=False)

    return changed(client, ref, started)
