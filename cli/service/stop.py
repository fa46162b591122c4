"""`pyswarm service stop`."""

from functools import partial

import click

from cli import flags
from cli.lazy import Verb
from cli.service.change import change_each, with_stopped


@click.command(
    cls=Verb,
    help="Stop one or more services and wait for their tasks to end; the number of replicas is"
    " kept\n\nExample: pyswarm service stop web db",
)
@flags.detach
@flags.quiet_progress
@click.argument("services", nargs=-1, required=True, metavar="SERVICE...")
def stop(*, detach: bool, quiet: bool, services: tuple[str, ...]) -> None:
    change_each(services, partial(with_stopped, stopped=True), detach=detach, quiet=quiet)
