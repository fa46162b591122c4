"""`pyswarm login`."""

import os
import sys

import click

from cli.lazy import Verb
from pyswarm_core.docker.reference import DEFAULT_REGISTRY, parse_reference
from pyswarm_core.errors import InvalidArgument, invalid

_INSECURE = "WARNING! Using --password via the CLI is insecure. Use --password-stdin."


@click.command(
    cls=Verb,
    help="Authenticate to a registry, by default Docker Hub\n\n"
    "The login is kept in Docker's file, ~/.docker/config.json, or by the credential helper that"
    " the file names. A former login in a file that is read before it, such as podman's, is"
    " removed.\n\n"
    "Example: pyswarm login --username ann --password-stdin registry.example.com:5000",
)
@click.option(
    "-p",
    "--password",
    default="",
    metavar="PASSWORD",
    help="Password or Personal Access Token (PAT)",
)
@click.option("--password-stdin", is_flag=True, help="Take the password from stdin")
@click.option("-u", "--username", default="", metavar="USERNAME", help="Username")
@click.argument("server", required=False)
def login(*, password: str, password_stdin: bool, username: str, server: str | None) -> None:
    from cli.image.accounts import files
    from cli.image.pull import read_password
    from cli.image.transfer import skopeo

    where = require_server(server)
    if password:
        click.echo(_INSECURE, err=True)
        if password_stdin:
            raise InvalidArgument("--password and --password-stdin are mutually exclusive")
    if password_stdin:
        if not username:
            raise InvalidArgument("--username: expected one with --password-stdin")
        password = read_password()
    username, password = _asked(username, password)
    with skopeo.folder() as folder:
        flags = ("--authfile", str(folder / "auth.json"), "--username", username)
        command = ["login", *flags, "--password-stdin", *skopeo.tls(where, ""), where]
        skopeo.run(command, f"cannot log in to {where}", given=password)
    for earlier in files.read_before(os.environ):
        if files.erase(earlier, where):
            click.echo(f"Removing the former login for {where} from {earlier}", err=True)
    path = files.path_of(os.environ)
    if not files.store(path, where, username, password):
        click.echo(
            f"WARNING! Your credentials are stored unencrypted in '{path}'.\n"
            "Configure a credential helper to remove this warning.",
            err=True,
        )
    click.echo("Login Succeeded")


def require_server(server: str | None) -> str:
    """The registry HOST[:PORT]. Raises InvalidArgument."""
    if not server:
        return DEFAULT_REGISTRY
    text = server.removeprefix("https://").removeprefix("http://").rstrip("/")
    for end in ("/v1", "/v2"):
        text = text.removesuffix(end)
    if text in ("index.docker.io", "registry-1.docker.io"):
        return DEFAULT_REGISTRY
    try:
        registry = parse_reference(f"{text}/any/any").registry
    except InvalidArgument:
        registry = ""
    if registry != text:
        raise invalid("SERVER", server, "expected HOST[:PORT], as in registry.example.com:5000")
    return text


def _asked(username: str, password: str) -> tuple[str, str]:
    """What is missing, typed at the terminal. Raises InvalidArgument without one."""
    if username and password:
        return username, password
    if not sys.stdin.isatty():
        raise InvalidArgument(
            "cannot perform an interactive login from a non TTY device: use --username and"
            " --password-stdin"
        )
    username = username or click.prompt("Username", err=True)
    return username, password or click.prompt("Password", hide_input=True, err=True)
