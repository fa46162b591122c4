"""`pyswarm service restart`."""

from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from cli import flags
from cli.lazy import Verb
from cli.service.change import change_each, changed, stopped_text
from pyswarm_core.errors import Conflict
from pyswarm_core.objects import Service
from pyswarm_core.specs import ServiceSpec

if TYPE_CHECKING:
    from cli.client import Client


@click.command(
    cls=Verb,
    help="Replace the tasks of one or more services as in an update, and wait for them to"
    " converge\n\nExample: pyswarm service restart web db",
)
@flags.detach
@flags.quiet_progress
@click.argument("services", nargs=-1, required=True, metavar="SERVICE...")
def restart(*, detach: bool, quiet: bool, services: tuple[str, ...]) -> None:
    change_each(services, restarted, detach=detach, quiet=quiet)


def restarted(client: "Client", ref: str) -> Service:
    """Have all tasks of a service replaced. Raises Conflict if it is stopped."""

    def forced(spec: ServiceSpec) -> ServiceSpec:
        if spec.stopped:
            raise Conflict(stopped_text(spec.name))
        template = spec.task_template
        return replace(
            spec, task_template=replace(template, force_update=template.force_update + 1)
        )

    return changed(client, ref, forced)
