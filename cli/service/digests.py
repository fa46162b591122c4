"""The lookup of an image's digest by `service create` and `update`: flag and progress."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import click

from pyswarm_core.specs import ServiceSpec

ANNOUNCE_AFTER_S = 1.0
"""A lookup that takes longer is announced."""

no_resolve_image = click.option(
    "--no-resolve-image",
    is_flag=True,
    help="Do not query the registry to resolve the image's digest",
)


@contextmanager
def lookup(spec: ServiceSpec, *, announced: bool) -> Iterator[None]:
    """Print after a second that the controller resolves the digest, which the block waits for."""
    image = spec.task_template.container_spec.image
    line = f"resolving the digest of {image}"
    timer = threading.Timer(ANNOUNCE_AFTER_S, click.echo, (line,), {"err": True})
    timer.daemon = True
    if announced:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def warn(warnings: Iterable[str]) -> None:
    """Print the controller's warnings on stderr."""
    for warning in warnings:
        click.echo(warning, err=True)
