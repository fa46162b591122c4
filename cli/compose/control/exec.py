"""`pyswarm compose exec`."""

import os
import sys

import click

from cli.compose import project
from cli.compose.control.logs import INDEX
from cli.compose.verb import ProjectVerb
from cli.service.spec.environment import environment
from pyswarm_core.streams.requests import EXEC, ExecRequest


def has_terminal() -> bool:
    """Whether a program gets a terminal by default: both ends of this process are one."""
    return bool(sys.stdin) and sys.stdin.isatty() and sys.stdout.isatty()


@click.command(
    "exec",
    cls=ProjectVerb,
    context_settings={"allow_interspersed_args": False},
    help="Execute a command in a running container of a service: the first one, or that of"
    " --index\n\n"
    "Example: pyswarm compose exec app sh",
)
@click.option("-d", "--detach", is_flag=True, help="Detached mode: Run command in the background")
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="Set environment variables")
@INDEX
@click.option(
    "-i", "--interactive/--no-interactive", default=True, hidden=True,
    help="Keep STDIN open even if not attached",
)  # fmt: skip
@click.option("-t", "--tty", is_flag=True, hidden=True, help="Allocate a pseudo-TTY")
@click.option(
    "-T", "--no-tty", "--no-TTY", "no_tty", is_flag=True,
    help="Disable pseudo-TTY allocation. By default, one is allocated on a terminal",
)  # fmt: skip
@click.option("--privileged", is_flag=True, help="Give extended privileges to the process")
@click.option("-u", "--user", default="", metavar="USER", help="Run the command as this user")
@click.option(
    "-w", "--workdir", default="", metavar="DIR", help="Path to workdir directory for this command"
)
@click.argument("service")
@click.argument(
    "command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND [ARG...]"
)
def exec_(
    *,
    detach: bool,
    env: tuple[str, ...],
    index: int,
    interactive: bool,
    tty: bool,
    no_tty: bool,
    privileged: bool,
    user: str,
    workdir: str,
    service: str,
    command: tuple[str, ...],
) -> int:
    if tty and not has_terminal():
        raise click.UsageError("-t: the input device is not a TTY")
    opened = project.opened()
    terminal = has_terminal() and not no_tty and not detach
    request = ExecRequest(
        ref=opened.one(service, index).view.id,
        args=command,
        env=environment(env, (), os.environ),
        user=user,
        workdir=workdir,
        interactive=interactive and not detach,
        terminal=terminal,
        privileged=privileged,
        detach=detach,
    )
    from cli.streams import keys, program

    stdio = program.Stdio(request.interactive, terminal, keys.parse("--detach-keys", keys.DEFAULT))
    return program.run(opened.client, EXEC, request, stdio)
