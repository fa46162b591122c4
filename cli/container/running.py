"""How `run` runs a container: in the background, or attached to its streams. SHELL."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from cli.container.foreground import Attached

_MISSING = re.compile(r"not found|no such file or directory", re.IGNORECASE)
_NOTHING_MADE = re.compile(r"invalid mount config|^cannot pull |^image [^ ]+: |^no such image")
"""Reasons for which Docker makes no container: it pulls the image, and looks at binds, before."""
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
        start(created, quiet=given["quiet"], auto_remove=given["auto_remove"])
        click.echo(created.service.id)
        return 0
    from cli.container import foreground

    streams = foreground.Attached.of(given)
    created = creating.created(given, own, attach_by=foreground.attach_by())
    return attached(created, streams, auto_remove=given["auto_remove"])


def attached(created: Created, streams: "Attached", *, auto_remove: bool) -> int:
    """Run a container that waits for this process (`attach_by`) until it ends or is detached;
    returns the exit code. Raises NotStarted.
    """
    from cli.container import foreground

    try:
        code = foreground.follow(created.client, created.service, streams)
    except NotStarted as error:
        _clean_up(created, str(error), auto_remove=auto_remove)
        raise
    if auto_remove:
        foreground.until_removed(created.client, created.service, streams)
    return code


def start(created: Created, *, quiet: bool, auto_remove: bool) -> None:
    """Wait until the container is started. Raises NotStarted."""
    one = Watched.of(created.service)
    if reason := starting.until_started(created.client, one, quiet=quiet):
        _clean_up(created, reason, auto_remove=auto_remove)
        raise NotStarted(reason)


def _clean_up(created: Created, reason: str, *, auto_remove: bool) -> None:
    """Remove what was made, where Docker would have made nothing."""
    if not auto_remove and not _NOTHING_MADE.search(reason):
        return
    with suppress(NotFound):
        created.client.remove_service(created.service.id)
    converge.until_gone(created.client, [Watched.of(created.service)], quiet=True)
