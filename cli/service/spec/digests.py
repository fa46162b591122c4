"""The lookup of an image's digest by `service create` and `update`: flag and progress."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import click

from cli.render import terminal
from pyswarm_core.specs import ServiceSpec

no_resolve_image = click.option(
    "--no-resolve-image",
    is_flag=True,
    help="Do not query the registry to resolve the image's digest",
)


def lookup(spec: ServiceSpec, *, announced: bool) -> AbstractContextManager[None]:
    """Print after a second that the controller resolves the digest, which the block waits for."""
    image = spec.task_template.container_spec.image
    return terminal.announced(f"resolving the digest of {image}") if announced else nullcontext()


def warn(warnings: Iterable[str]) -> None:
    """Print the controller's warnings on stderr."""
    for warning in warnings:
        click.echo(warning, err=True)
