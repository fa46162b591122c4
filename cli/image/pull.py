"""`pyswarm image pull` and `pyswarm pull`."""

import os
import sys
from typing import TYPE_CHECKING

import click

from cli import session
from cli.failures import Failures
from cli.image import refused
from cli.lazy import Verb
from pyswarm_core.docker.reference import Reference, parse_reference
from pyswarm_core.errors import InvalidArgument, invalid
from pyswarm_core.plaintext import split_lines

if TYPE_CHECKING:
    from cli.calls.connection import Connection
    from pyswarm_core.images.views import PullImage
    from pyswarm_core.specs import RegistryLogin


@click.command(
    cls=Verb,
    help="Download an image to nodes\n\n"
    "Without --username the login of `pyswarm login` or `docker login` is used, if there is one;"
    " otherwise that of the node.\n\n"
    "Example: pyswarm pull --node host2 --node host3 web:1",
)
@click.option(
    "--node", "nodes", multiple=True, metavar="NODE", help="Node to download to (default all)"
)
@click.option("-a", "--all-tags", is_flag=True, help="Download all tagged images in the repository")
@click.option(
    "--platform",
    default="",
    metavar="OS[/ARCH[/VARIANT]]",
    help="Platform of the image (default that of each node)",
)
@click.option("--username", default="", metavar="USERNAME", help="Username for the registry")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin")
@click.option("-q", "--quiet", is_flag=True, help="Suppress progress output")
@click.argument("image", metavar="IMAGE[:TAG|@DIGEST]")
def pull(
    *,
    nodes: tuple[str, ...],
    all_tags: bool,
    platform: str,
    username: str,
    password_stdin: bool,
    quiet: bool,
    image: str,
) -> None:
    from pyswarm_core.images.views import PullImage

    reference = parse_reference(image)
    if all_tags and (reference.digest or image.endswith(f":{reference.tag}")):
        raise invalid("IMAGE", image, "expected a name without a tag, as --all-tags is given")
    password = read_password() if password_stdin else ""
    if not username and (login := login_of(reference)) is not None:
        username, password = login.username, login.password
    request = PullImage(
        str(reference),
        nodes=nodes,
        username=username,
        password=password,
        platform=platform,
        all_tags=all_tags,
    )
    follow(session.connection(), request, quiet=quiet)
    click.echo(reference.name if all_tags else str(reference))


def follow(connection: "Connection", request: "PullImage", *, quiet: bool) -> None:
    """Pull an image on nodes, and show the progress. Raises Unavailable with what failed."""
    from cli.image import calls
    from cli.image.progress import PullView
    from cli.render.screen import Screen
    from cli.render.terminal import width

    view, printed = PullView(), set[str]()
    screen = Screen(width()) if sys.stderr.isatty() and not quiet else None
    with Failures() as failures:
        for update in calls.pull(connection, request):
            view.take(update)
            if screen is not None:
                click.echo(screen.draw(view.lines()), err=True, nl=False)
            elif not quiet:
                _print_new(view.words(), printed)
            if update.done and update.error:
                failures.of_node(update.node_name, update.error)
    for line in () if quiet else view.summary():
        click.echo(line, err=True)


pull.params.append(refused.trust())


def _print_new(lines: list[str], printed: set[str]) -> None:
    for line in lines:
        if line not in printed:
            printed.add(line)
            click.echo(line, err=True)


def login_of(reference: Reference) -> "RegistryLogin | None":
    """The user's login for the image's registry. One that cannot be read is a warning: the image
    may be public.
    """
    from cli.service.spec.logins import login_for

    try:
        return login_for(reference, os.environ)
    except InvalidArgument as error:
        click.echo(f"warning: {error}", err=True)
        return None


def read_password() -> str:
    """The first line of stdin. Only a line feed ends it; the password may have other separators."""
    try:
        text = sys.stdin.buffer.readline().decode()
    except UnicodeDecodeError:
        raise InvalidArgument("--password-stdin: the password is not UTF-8") from None
    return "".join(split_lines(text))
