"""How `run` runs a container: in the background, or attached to its streams. SHELL."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import click

from cli import converge
from cli.container import creating
from cli.container.creating import Created
from cli.container.exits import Failed, NoCommand, NotExecutable
from cli.container.lifecycle import starting
from cli.container.lifecycle.change import NotStarted
from cli.converge import Watched
from cli.errors import NotConverged
from pyswarm_core.errors import NotFound, PyswarmError

_MISSING = re.compile(r"not found|no such file or directory", re.IGNORECASE)
_DENIED = re.compile(r"permission denied|exec format error|is a directory", re.IGNORECASE)


@contextmanager
def docker_exit_codes() -> Iterator[None]:
    """A failure of pyswarm ends with 125; 126 and 127 are about the container's command."""
    try:
        yield
    except NotConverged:
        raise
    except NotStarted as error:
        raise failure(str(error)) from None
    except PyswarmError as error:
        raise Failed(str(error)) from None


def failure(reason: str) -> Failed:
    """The error for a container that could not be started, by the runtime's reason."""
    if "exec" not in reason:
        return Failed(reason)
    if _DENIED.search(reason):
        return NotExecutable(reason)
    return NoCommand(reason) if _MISSING.search(reason) else Failed(reason)


def run(given: Mapping[str, Any], own: Mapping[str, str]) -> int:
    """Run a container; without --detach until it ends. Returns the exit code."""
    if given["detach"]:
        created = creating.created(given, own)
        _start(created, given)
        click.echo(created.service.id)
        return 0
    from cli.container import foreground

    attached = foreground.Attached.of(given)
    created = creating.created(given, own, attach_by=foreground.attach_by())
    try:
        code = foreground.follow(created.client, created.service, attached)
    except NotStarted:
        _clean_up(created, given)
        raise
    if given["auto_remove"]:
        foreground.until_removed(created.client, created.service, attached)
    return code


def _start(created: Created, given: Mapping[str, Any]) -> None:
    one = Watched.of(created.service)
    reason = starting.until_started(created.client, one, quiet=given["quiet"])
    if reason:
        _clean_up(created, given)
        raise NotStarted(reason)


def _clean_up(created: Created, given: Mapping[str, Any]) -> None:
    if not given["auto_remove"]:
        return
    with suppress(NotFound):
        created.client.remove_service(created.service.id)
    converge.until_gone(created.client, [Watched.of(created.service)], quiet=True)
