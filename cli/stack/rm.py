"""`pyswarm stack rm`."""

import click

from cli import converge, flags, session
from cli.converge import Watched
from cli.failures import Failures
from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Remove one or more stacks and wait for their tasks to end; volumes are kept\n\n"
    "Example: pyswarm stack rm shop",
)
@flags.detach_from_end
@flags.quiet_progress
@click.argument("stacks", nargs=-1, required=True, metavar="STACK...")
def rm(*, detach: bool, quiet: bool, stacks: tuple[str, ...]) -> None:
    from cli.render.plans import done
    from cli.stack import calls
    from cli.stack.applying import until_removed

    client = session.connect()
    services, ids = [], []
    with Failures() as failures:
        for ref in dict.fromkeys(stacks):
            with failures.collected():
                reply = calls.remove(client, ref)
                for line in done(reply.changes):
                    click.echo(line)
                ids += [reply.stack.id] if reply.stack is not None else []
                services += [one for one in reply.changes if one.kind == "service"]
        if services and not detach:
            watched = [Watched(one.id, one.name) for one in services]
            converge.until_gone(client, watched, quiet=quiet)
        for stack_id in ids if not detach else ():
            until_removed(client, stack_id)
