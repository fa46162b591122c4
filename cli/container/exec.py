"""`pyswarm exec`."""

import os
import sys

import click

from cli import session
from cli.lazy import Verb
from cli.service.spec.environment import environment
from cli.streams import keys
from pyswarm_core.streams.requests import EXEC, ExecRequest


@click.command(
    "exec",
    cls=Verb,
    context_settings={"allow_interspersed_args": False},
    help="Execute a command in a running container: that of a task, of a slot (web.2), or of the"
    " one task of a service\n\nExample: pyswarm exec -it web.1 sh",
)
@click.option("-d", "--detach", is_flag=True, help="Detached mode: run command in the background")
@click.option(
    "--detach-keys",
    default=keys.DEFAULT,
    metavar="KEYS",
    help=f"Override the key sequence for detaching a container (default {keys.DEFAULT})",
)
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="Set environment variables")
@click.option(
    "--env-file", multiple=True, metavar="FILE", help="Read in a file of environment variables"
)
@click.option("-i", "--interactive", is_flag=True, help="Keep STDIN open even if not attached")
@click.option("--privileged", is_flag=True, help="Give extended privileges to the command")
@click.option("-t", "--tty", is_flag=True, help="Allocate a pseudo-TTY")
@click.option("-u", "--user", default="", metavar="USER[:GROUP]", help="Username or UID")
@click.option(
    "-w", "--workdir", default="", metavar="DIR", help="Working directory inside the container"
)
@click.option(
    "--all",
    "everywhere",
    is_flag=True,
    help="Execute the command in every running task of the service, and exit with the highest code",
)
@click.argument("target", metavar="CONTAINER|TASK|SERVICE[.SLOT]")
@click.argument(
    "command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND [ARG...]"
)
def exec_(
    *,
    detach: bool,
    detach_keys: str,
    env: tuple[str, ...],
    env_file: tuple[str, ...],
    interactive: bool,
    privileged: bool,
    tty: bool,
    user: str,
    workdir: str,
    everywhere: bool,
    target: str,
    command: tuple[str, ...],
) -> int:
    sequence = keys.parse("--detach-keys", detach_keys)
    if interactive and tty and not detach and not (sys.stdin and sys.stdin.isatty()):
        raise click.UsageError("-t: the input device is not a TTY: use -i alone")
    if everywhere and (interactive or tty):
        given = "--interactive" if interactive else "--tty"
        raise click.UsageError(f"--all: several tasks have no common stdin: leave out {given}")
    if detach and (interactive or tty):
        text = "a command in the background has neither stdin nor terminal"
        click.echo(f"warning: --detach: {text}", err=True)
    request = ExecRequest(
        ref=target,
        args=command,
        env=environment(env, env_file, os.environ),
        user=user,
        workdir=workdir,
        interactive=interactive,
        terminal=tty,
        privileged=privileged,
        detach=detach,
    )
    client = session.connect()
    from cli.streams import program

    if everywhere:
        from cli.streams import replicas

        return replicas.run(client, request)
    return program.run(client, EXEC, request, program.Stdio(interactive, tty, sequence))
