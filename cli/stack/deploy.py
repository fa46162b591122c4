"""`pyswarm stack deploy`."""

import click

from cli import flags, session
from cli.compose import flags as files_flags
from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Deploy a new stack or update an existing stack, and wait for its services\n\n"
    "Example: pyswarm stack deploy -c stack.yaml shop",
)
@files_flags.stack_files
@click.option("--plan", is_flag=True, help="Print what would change, and change nothing")
@click.option("--prune", is_flag=True, help="Remove what is no longer in the files")
@click.option(
    "--reset-scale", is_flag=True, help="Set the numbers of replicas of the files everywhere"
)
@click.option(
    "--resolve-image",
    type=flags.Choice(["always", "changed", "never"]),
    default="always",
    show_default=True,
    help="Query the registry to resolve image digests",
)
@click.option(
    "--with-registry-auth", is_flag=True, help="Send registry logins to the nodes that run tasks"
)
@click.option(
    "--wait-timeout",
    type=flags.Number(1, 86_400),
    metavar="SECONDS",
    help="Stop waiting after this time (default: wait until it is decided)",
)
@files_flags.no_env_file
@files_flags.strict
@flags.detach_from_stack
@flags.quiet_progress
@click.argument("stack", metavar="STACK")
@click.pass_context
def deploy(
    context: click.Context,
    /,
    *,
    files: tuple[str, ...],
    no_env_file: bool,
    strict: bool,
    stack: str,
    **given: object,
) -> None:
    from cli.compose import externals, localbinds, notices, uploads
    from cli.stack.applying import ApplyOptions, apply
    from cli.stack.mapped import stack_of_files

    wanted = files_flags.request(
        context,
        files=files,
        is_stack=True,
        project_name=stack,
        reads_env_file=not no_env_file,
    )
    mapped = stack_of_files(wanted, is_strict=strict)
    timeout = given.pop("wait_timeout") or 0
    options = ApplyOptions(timeout_s=float(str(timeout)), **given)  # type: ignore[arg-type]
    client = session.connect()
    externals.require(client, mapped, makes_volumes=True)
    mapped = localbinds.pinned(client, mapped)
    if not options.plan:
        uploads.upload(client, mapped, quiet=options.quiet)
    apply(client, mapped, options, lambda changes: notices.tell(mapped, changes))
