"""`pyswarm compose attach`."""

import os

import click

from cli.compose import project
from cli.compose.control.logs import INDEX
from cli.compose.verb import ProjectVerb
from cli.streams import keys
from pyswarm_core.streams.requests import ATTACH, AttachRequest


@click.command(
    "attach",
    cls=ProjectVerb,
    help="Attach local standard input, output, and error streams to a service's running"
    " container\n\n"
    "Example: pyswarm compose attach --no-stdin web",
)
@click.option(
    "--detach-keys", default=keys.DEFAULT, metavar="KEYS",
    help=f"Override the key sequence for detaching from a container (default {keys.DEFAULT})",
)  # fmt: skip
@INDEX
@click.option("--no-stdin", is_flag=True, help="Do not attach STDIN")
@click.option(
    "--sig-proxy/--no-sig-proxy", default=True,
    help="Proxy all received signals to the process (default true)",
)  # fmt: skip
@click.argument("service")
def attach(*, detach_keys: str, index: int, no_stdin: bool, sig_proxy: bool, service: str) -> int:
    sequence = keys.parse("--detach-keys", detach_keys)
    opened = project.opened()
    request = AttachRequest(ref=opened.one(service, index).view.id, stdin=not no_stdin)
    from cli.streams import program

    stdio = program.Stdio(not no_stdin, os.isatty(0), sequence)
    if sig_proxy:
        stdio = stdio._replace(signals=program.PROXIED)
    return program.run(opened.client, ATTACH, request, stdio)
