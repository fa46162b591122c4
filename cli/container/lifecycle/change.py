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
from pyswarm_core.errors import NotFound, PyswarmError


class NotStarted(PyswarmError):
    """A container's process could not be started."""


Change = Callable[[Client, Named], Watched | None]
"""Requests the change; returns the service to wait for, if any."""
Wait = Callable[[Client, Sequence[Watched]], Mapping[str, str]]
"""Returns once all are as requested; why those of these ids are not."""


def each(refs: Iterable[str], change: Change, wait: Wait, *, may_be_missing: bool = False) -> None:
    """Change each, wait for all, and print the names of those that are as requested.

    One that fails does not stop the others. With `may_be_missing` one that does not exist is no
    failure.
    """
    client = session.connect()
    changed: dict[str, Watched | None] = {}
    with Failures() as failures:
        for ref in dict.fromkeys(refs):
            with failures.collected():
                if (found := _found(client, ref, may_be_missing=may_be_missing)) is not None:
                    changed[ref] = change(client, found)
        waited = [watched for watched in changed.values() if watched is not None]
        reasons = wait(client, waited) if waited else {}
        for ref, watched in changed.items():
            if watched is None or watched.id not in reasons:
                click.echo(ref)
                continue
            with failures.collected():
                raise NotStarted(f"{ref}: {reasons[watched.id]}")


def _found(client: Client, ref: str, *, may_be_missing: bool) -> Named | None:
    try:
        return calls.named(client, ref)
    except NotFound as error:
        if not may_be_missing:
            raise
        click.echo(f"Error: {error}", err=True)
        return None
