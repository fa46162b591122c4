"""`pyswarm service start`."""

from functools import partial

import click

from cli import flags
from cli.lazy import Verb
from cli.service.change import change_each, with_stopped


@click.command(
    cls=Verb,
    help="Start one or more stopped services and wait for them to converge\n\n"
    "Example: pyswarm service start web db",
)
@flags.detach
@flags.quiet_progress
@click.argument("services", nargs=-1, required=True, metavar="SERVICE...")
def start(*, detach: bool, quiet: bool, services: tuple[str, ...]) -> None:
    change_each(services, partial(with_stopped, stopped=False), detach=detach, quiet=quiet)
