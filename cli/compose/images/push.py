"""`pyswarm compose push`."""

import os
from typing import TYPE_CHECKING

import click

from cli import session
from cli.compose import flags, mapping
from cli.compose.verb import ProjectVerb
from cli.failures import Failures
from pyswarm_core.errors import PyswarmError

if TYPE_CHECKING:
    from cli.client import Client
    from cli.compose.mapping import Files


@click.command(
    "push",
    cls=ProjectVerb,
    help="Push images of services with a build section to the registries in their names\n\n"
    "An image without a registry in its name is in the fleet's registry once it is built.\n\n"
    "Example: pyswarm compose push app",
)
@click.option(
    "--ignore-push-failures", is_flag=True,
    help="Push what it can and ignores images with push failures",
)  # fmt: skip
@click.option("--include-deps", is_flag=True, help="Also push images of services declared as deps")
@click.option("-q", "--quiet", is_flag=True, help="Push without printing progress information")
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
def push(
    *, ignore_push_failures: bool, include_deps: bool, quiet: bool, services: tuple[str, ...]
) -> None:
    files = mapping.read(services)
    names = files.with_needed(services) if include_deps else files.chosen(services)
    client = session.connect()
    with Failures() as failures:
        for image in _images(files, names):
            with failures.collected():
                try:
                    _push(client, image, quiet=quiet or flags.is_quiet())
                except PyswarmError as error:
                    if not ignore_push_failures:
                        raise
                    click.echo(f"Warning: {error}", err=True)


def _images(files: "Files", names: tuple[str, ...]) -> list[str]:
    """The images of builds, with their further tags."""
    found: dict[str, None] = {}
    for name, one in files.mapped.builds.items():
        if name in names:
            found |= dict.fromkeys((one.image, *one.tags))
    return list(found)


def _push(client: "Client", image: str, *, quiet: bool) -> None:
    from cli.image.transfer import push, skopeo, sources
    from cli.registry.opening import opened
    from cli.service.spec.logins import login_for
    from pyswarm_core.docker.reference import DEFAULT_REGISTRY, parse_reference

    one = parse_reference(image)
    with opened(client) as registry:
        is_plain = one.registry == DEFAULT_REGISTRY and one.repository.startswith("library/")
        if is_plain and sources.digest_of(registry, one):
            click.echo(f"{one.familiar}: in the fleet's registry", err=True)
            return
        with skopeo.folder() as folder:
            login = sources.login_file(login_for(one, os.environ), folder)
            digest = push.push_tag(client, registry, one, login, quiet=quiet)
    click.echo(f"{one.familiar}: digest: {digest}", err=True)
