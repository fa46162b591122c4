"""`pyswarm attach`."""

import os

import click

from cli import session
from cli.lazy import Verb
from cli.streams import keys
from pyswarm_core.streams.requests import ATTACH, AttachRequest


@click.command(
    cls=Verb,
    help="Attach local standard input, output, and error streams to a running container: that of a"
    " task, of a slot (web.2), or of the one task of a service\n\n"
    "Example: pyswarm attach --no-stdin web.1",
)
@click.option(
    "--detach-keys",
    default=keys.DEFAULT,
    metavar="KEYS",
    help=f"Override the key sequence for detaching a container (default {keys.DEFAULT})",
)
@click.option("--no-stdin", is_flag=True, help="Do not attach STDIN")
@click.option(
    "--sig-proxy/--no-sig-proxy",
    default=True,
    help="Proxy all received signals to the process (default true)",
)
@click.argument("target", metavar="CONTAINER|TASK|SERVICE[.SLOT]")
def attach(*, detach_keys: str, no_stdin: bool, sig_proxy: bool, target: str) -> int:
    sequence = keys.parse("--detach-keys", detach_keys)
    request = AttachRequest(ref=target, stdin=not no_stdin)
    client = session.connect()
    from cli.streams import program

    stdio = program.Stdio(not no_stdin, os.isatty(0), sequence)
    if sig_proxy:
        stdio = stdio._replace(signals=program.PROXIED)
    return program.run(client, ATTACH, request, stdio)
