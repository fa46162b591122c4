"""`pyswarm image pull`."""

import sys

import click

from cli import session
from cli.failures import Failures
from cli.lazy import Verb
from cli.render.progress import Screen
from cli.render.terminal import width
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.docker.units import decimal_size
from pyswarm_core.errors import InvalidArgument, Unavailable
from pyswarm_core.plaintext import split_lines
from pyswarm_core.views import NodeImageProgress


@click.command(
    cls=Verb,
    help="Download an image to nodes\n\n"
    "Example: pyswarm image pull --node host2 --node host3 web:1",
)
@click.option(
    "--node", "nodes", multiple=True, metavar="NODE", help="Node to download to (default all)"
)
@click.option("--username", default="", help="Username for the registry")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin")
@click.option("-q", "--quiet", is_flag=True, help="Suppress progress output")
@click.argument("image")
def pull(
    *, nodes: tuple[str, ...], username: str, password_stdin: bool, quiet: bool, image: str
) -> None:
    reference = str(parse_reference(image))
    password = _read_password() if password_stdin else ""
    updates = session.connect().pull_image(
        reference, nodes=nodes, username=username, password=password
    )
    screen = Screen(width()) if sys.stderr.isatty() and not quiet else None
    latest: dict[str, str] = {}
    with Failures() as failures:
        for progress in updates:
            text = line(progress)
            changed = latest.get(progress.node_name) != text
            latest[progress.node_name] = text
            if screen is not None:
                click.echo(screen.draw(list(latest.values())), err=True, nl=False)
            elif changed and not quiet:
                click.echo(text, err=True)
            with failures.collected():
                if progress.done and progress.error:
                    raise Unavailable(f"{progress.node_name}: {progress.error}")
    click.echo(reference)


def _read_password() -> str:
    """The first line of stdin. Only a line feed ends it; the password may have other separators."""
    try:
        text = sys.stdin.buffer.readline().decode()
    except UnicodeDecodeError:
        raise InvalidArgument("--password-stdin: the password is not UTF-8") from None
    return "".join(split_lines(text))


def line(update: NodeImageProgress) -> str:
    """The progress of one node."""
    progress = update.progress
    if update.error:
        return f"{update.node_name}: {update.error}"
    amount = ""
    if progress.done_bytes or progress.total_bytes:
        amount = f" {decimal_size(progress.done_bytes)}"
    if progress.total_bytes:
        amount += f"/{decimal_size(progress.total_bytes)}"
    return f"{update.node_name}: {'done' if update.done else progress.status}{amount}"
