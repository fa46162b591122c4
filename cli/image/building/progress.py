"""What buildah prints as progress, and the error of a build that fails. SHELL: it prints."""

import re
from pathlib import Path
from typing import NamedTuple

import click

from cli.image.building.context import Sources
from cli.image.building.display import Display, header
from cli.image.building.storage import reason_in
from cli.image.building.transcript import Kind, Transcript, cause, excerpt, own_output
from pyswarm_core.docker.building.checks import LAYERS_MAX
from pyswarm_core.errors import PyswarmError

_MISSING = re.compile(
    r'no items matching glob "(.*?)"|checking on sources under .*: copier: stat: "(.*?)": no such'
)


class BuildFailed(PyswarmError):
    """A step of the Dockerfile failed."""


class Place(NamedTuple):
    """Where a build runs, for errors."""

    context: re.Pattern[str]
    """What begins the paths of its context."""
    remedy: str
    """Of a full disk."""

    @classmethod
    def here(cls, directory: Path) -> "Place":
        """This machine."""
        pattern = re.compile(re.escape(f"{directory}/"))
        return cls(pattern, "`pyswarm builder prune` removes the build cache")


class Progress:
    """Shows the lines of one build as they come."""

    def __init__(self, target: str, found: Sources, display: Display) -> None:
        self._found = found
        self._display = display
        self._transcript = Transcript(found.content, target)
        self._is_complete = False

    def line(self, line: str) -> None:
        """The next line."""
        event = self._transcript.feed(line)
        # After the last step buildah prints the image's name and id.
        self._is_complete = self._is_complete or event.kind is Kind.COMMIT
        if not self._is_complete:
            self._display.show(event)

    def end(self, *, failed: bool, place: Place) -> None:
        """The last line has been shown. Raises BuildFailed with the step, and PyswarmError."""
        self._display.close(failed=failed)
        if failed:
            raise self._failure(place)

    def _failure(self, place: Place) -> PyswarmError:
        """The error; what the step printed is shown first, unless that has happened already."""
        transcript, content = self._transcript, self._found.content
        error = reason_in(list(transcript.tail))
        reason, step = cause(error), transcript.failed(error)
        if step is None:
            return PyswarmError(f"the build failed: {reason}")
        name = content.name
        if not self._display.has_shown_output:
            click.echo(header(step, name), err=True)
            for line in own_output(transcript.tail):
                click.echo(line, err=True)
        if step.line:
            click.echo("\n".join(excerpt(content, step.line)), err=True)
        where = f"{name}:{step.line}: " if step.line else ""
        return BuildFailed(f"{where}{step.text.strip()}: {_explained(reason, place)}")


def _explained(reason: str, place: Place) -> str:
    if "max depth exceeded" in reason:
        return (
            f"the image would have more than {LAYERS_MAX} layers: join RUN, COPY and ADD"
            " instructions"
        )
    if missing := _MISSING.search(reason):
        named = place.context.sub("", missing[1] or missing[2], count=1).lstrip("/")
        return f"{named}: the context has no such file, or .dockerignore excludes it"
    if "exec format error" in reason:
        return f"{reason}: the image is for another platform than this machine; use --platform"
    if "no space left on device" in reason:
        return f"{reason}: {place.remedy}"
    return reason
