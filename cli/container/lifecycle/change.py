"""Changes of containers: of each named one, with Docker's outcome for several. SHELL.

A name is that of a container, of a service (all its tasks) or of a slot (`web.2`: its task).
"""

from collections.abc import Callable, Iterable

import click

from cli import converge, session
from cli.client import Client
from cli.container import calls
from cli.container.calls import Named
from cli.converge import Watched
from cli.failures import Failures

Change = Callable[[Client, Named], Watched | None]
"""Requests the change; returns the service to wait for, if any."""


def each(refs: Iterable[str], change: Change, *, wait: Callable[..., None] | None = None) -> None:
    """Change each and print its name; one that fails does not stop the others.

    Then wait until all services are as requested: by `wait`, else until they have converged.
    """
    client = session.connect()
    watched = []
    with Failures() as failures:
        for ref in dict.fromkeys(refs):
            with failures.collected():
                found = change(client, calls.named(client, ref))
                click.echo(ref)
                watched += [found] if found else []
        if watched:
            (wait or converge.until_converged)(client, watched, quiet=True)
