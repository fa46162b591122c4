"""Looking up an image's digest when a service is created or gets another image: flag and words."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import click

from pyswarm_core.specs import ServiceSpec

PATIENCE_S = 1.0
"""Whoever waits longer is told for what."""

no_resolve_image = click.option(
    "--no-resolve-image",
    is_flag=True,
    help="Do not query the registry to resolve the image's digest",
)


@contextmanager
def lookup(spec: ServiceSpec, *, told: bool) -> Iterator[None]:
    """While the block waits for the controller, which asks the registry: say so after a second."""
    image = spec.task_template.container_spec.image
    line = f"asking the registry for the digest of {image}"
    timer = threading.Timer(PATIENCE_S, click.echo, (line,), {"err": True})
    timer.daemon = True
    if told:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def warn(warnings: Iterable[str]) -> None:
    """What the controller warned of, on stderr."""
    for warning in warnings:
        click.echo(warning, err=True)
