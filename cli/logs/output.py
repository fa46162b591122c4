"""Prints logs on the streams to which they were written. SHELL."""

import os
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TextIO

import click
from msgspec.structs import replace

from cli.client import Client
from cli.render.loglines import Form, Renderer
from pyswarm_core.errors import Exhausted, Unavailable
from pyswarm_core.views import Logs, LogsQuery


def show(client: Client, query: LogsQuery, form: Form) -> None:
    """Request the lines and print them. Lines of a container have no prefix."""
    try:
        _print(client.logs(query), query, form)
    except Unavailable as error:
        if query.follow and not isinstance(error, Exhausted):
            raise Unavailable(f"the log stream ended: {error}") from None
        raise


def _print(parts: Iterator[Logs], query: LogsQuery, form: Form) -> None:
    first = next(parts, Logs())
    if query.container and not first.of_service:
        form = replace(form, prefix=False)
    colours = has_colours(sys.stdout), has_colours(sys.stderr)
    print_parts(chain((first,), parts), Renderer(form, colours))


def print_parts(parts: Iterable[Logs], renderer: Renderer) -> None:
    """Print the lines on the streams to which they were written, and warnings."""
    streams = sys.stdout.buffer, sys.stderr.buffer
    for part in parts:
        if part.warning:
            click.echo(f"warning: {part.warning}", err=True)
        for stream, text in renderer.rendered(part):
            streams[stream].write(text)
            streams[stream].flush()


def has_colours(stream: TextIO) -> bool:
    """Whether the stream is a terminal, and the user did not turn colours off (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")
