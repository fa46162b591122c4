"""`pyswarm start`."""

import click

from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Start one or more stopped containers, with the files they had\n\n"
    "Example: pyswarm start db",
)
@click.option("-a", "--attach", is_flag=True, help="Attach STDOUT/STDERR and forward signals")
@click.option("-i", "--interactive", is_flag=True, help="Attach container's STDIN")
@click.option(
    "--detach-keys",
    metavar="KEYS",
    help="Override the key sequence for detaching a container (default ctrl-p,ctrl-q)",
)
@click.argument("containers", nargs=-1, required=True, metavar="CONTAINER...")
def start(
    *, attach: bool, interactive: bool, detach_keys: str | None, containers: tuple[str, ...]
) -> int:
    from cli.container.lifecycle import change, starting

    if attach or interactive:
        return starting.attached(containers, detach_keys, with_input=interactive)
    change.each(containers, starting.request, starting.wait)
    return 0
