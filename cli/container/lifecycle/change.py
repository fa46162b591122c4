"""Changes of containers: of each named one, with Docker's outcome for several. SHELL.

A name is that of a container, of a service (all its tasks) or of a slot (`web.2`: its task).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import click

from cli import session
from cli.client import Client
from cli.container import calls
from cli.container.calls import Named
from cli.converge import Watched
from cli.failures import Failures
from pyswarm_core.errors import PyswarmError


class NotStarted(PyswarmError):
    """A container's process could not be started."""


Change = Callable[[Client, Named], Watched | None]
"""Requests the change; returns the service to wait for, if any."""
Wait = Callable[[Client, Sequence[Watched]], Mapping[str, str]]
"""Returns once all are as requested; why those of these ids are not."""


def each(refs: Iterable[str], change: Change, wait: Wait) -> None:
    """Change each, wait for all, and print the names of those that are as requested.

    One that fails does not stop the others.
    """
    client = session.connect()
    changed: dict[str, Watched | None] = {}
    with Failures() as failures:
        for ref in dict.fromkeys(refs):
            with failures.collected():
                changed[ref] = change(client, calls.named(client, ref))
        waited = [watched for watched in changed.values() if watched is not None]
        reasons = wait(client, waited) if waited else {}
        for ref, watched in changed.items():
            if watched is None or watched.id not in reasons:
                click.echo(ref)
                continue
            with failures.collected():
                raise NotStarted(f"{ref}: {reasons[watched.id]}")
