"""`pyswarm stack rollback`."""

import click

from cli import flags, session
from cli.lazy import Verb
from pyswarm_core.docker.units import INT64_MAX


@click.command(
    cls=Verb,
    help="Return to an earlier version of a stack and wait for its services\n\n"
    "Example: pyswarm stack rollback shop --to 3",
)
@click.option(
    "--to",
    type=flags.Number(1, INT64_MAX),
    metavar="VERSION",
    help="Version to return to, see `stack history` (default the previous one)",
)
@click.option("--plan", is_flag=True, help="Print what would change, and change nothing")
@flags.detach_from_stack
@flags.quiet_progress
@click.argument("stack", metavar="STACK")
def rollback(*, to: int | None, plan: bool, detach: bool, quiet: bool, stack: str) -> None:
    from cli.stack import calls
    from cli.stack.applying import ApplyOptions, follow

    client = session.connect()
    reply = calls.rollback(client, stack, to or 0, dry_run=plan)
    follow(client, reply, ApplyOptions(plan=plan, detach=detach, quiet=quiet))
