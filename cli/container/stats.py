"""`pyswarm stats` and `pyswarm container stats`. SHELL.

A thread reads the stream; the table is drawn once per second, whenever nodes send their samples.
"""

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import click

from cli import flags, session
from cli.lazy import Verb
from cli.render import listing, usage
from cli.render.listing import Row
from cli.render.screen import Screen
from cli.render.terminal import size_of_stdout
from cli.render.usage import Usage, fitting
from cli.streams.resuming import resumed
from pyswarm_core.errors import Unavailable
from pyswarm_core.views import StatsPart

if TYPE_CHECKING:
    from cli.client import Client

PERIOD_S = 1.0
_FIRST_S = 0.2
"""How long after its first sample a table is drawn: other nodes' samples come about then."""
_QUEUE = 1_000

_Part = tuple[StatsPart, bool]
"""A part, and whether it is the first of a stream."""
_Item = _Part | Exception | None


@click.command(
    cls=Verb,
    help="Display a live stream of container(s) resource usage statistics\n\n"
    "Without names of all running containers of the fleet.\n\n"
    "Example: pyswarm stats --no-stream web",
)
@click.option(
    "-a", "--all", "all_", is_flag=True, help="Show all containers (default shows just running)"
)
@click.option(
    "--no-stream", is_flag=True, help="Disable streaming stats and only pull the first result"
)
@flags.format_
@flags.no_trunc
@click.argument("refs", nargs=-1, metavar="[CONTAINER|TASK|SERVICE...]")
def stats(*, all_: bool, no_stream: bool, form: str, no_trunc: bool, refs: tuple[str, ...]) -> None:
    listing.show(usage.LAYOUT, [], form)  # a format that is not valid is reported at once
    style = Style(form=form, truncate=not no_trunc, every=all_)
    show(session.connect(), refs, style, no_stream=no_stream)


class Style(NamedTuple):
    """Which rows are shown, and how."""

    form: str = ""
    truncate: bool = True
    every: bool = False
    """Also of containers that do not run."""
    shown: Callable[[Row], Row] = lambda row: row
    """A row as it is printed."""


def show(client: "Client", refs: Sequence[str], style: Style, *, no_stream: bool) -> None:
    """Print the table of these services and containers once, or until the stream ends."""
    found, all_ = Usage(), style.every

    def lines() -> list[str]:
        rows = [style.shown(row) for row in found.rows(truncate=style.truncate)]
        return listing.show(usage.LAYOUT, rows, style.form)

    if no_stream:
        for part in client.stats(refs, all=all_, follow=False):
            _take(found, part)
        for line in lines():
            click.echo(line)
        return

    def stream() -> Iterator[_Part]:
        for number, part in enumerate(client.stats(refs, all=all_, follow=True)):
            yield part, number == 0

    try:
        _follow(lambda: resumed(client, stream), found, lines)
    except Unavailable as error:
        raise Unavailable(f"the stream of stats ended: {error}") from None


def _take(found: Usage, part: StatsPart) -> None:
    found.take(part)
    if part.warning:
        click.echo(f"warning: {part.warning}", err=True)


def _follow(
    parts: Callable[[], Iterator[_Part]], found: Usage, lines: Callable[[], list[str]]
) -> None:
    """Draw once per second until the stream ends."""
    items: queue.Queue[_Item] = queue.Queue(_QUEUE)
    threading.Thread(target=_read, args=(parts, items), daemon=True).start()
    draw = drawer(found, lines)
    goes_on = _taken(found, items.get())
    due = time.monotonic() + _FIRST_S
    while goes_on:
        try:
            goes_on = _taken(found, items.get(timeout=max(due - time.monotonic(), 0)))
        except queue.Empty:
            draw()
            due += PERIOD_S
    draw()


def _read(parts: Callable[[], Iterator[_Part]], items: "queue.Queue[_Item]") -> None:
    try:
        for part in parts():
            items.put(part)
    except Exception as error:  # the thread that draws raises it
        items.put(error)
    else:
        items.put(None)


def _taken(found: Usage, item: _Item) -> bool:
    """Whether the stream goes on. Raises the error that ended it."""
    if isinstance(item, Exception):
        raise item
    if item is not None:
        part, is_first = item
        if is_first:
            found.begin()
        _take(found, part)
    return item is not None


def drawer(found: Usage, lines: Callable[[], list[str]]) -> Callable[[], None]:
    """What draws the table: in place on a terminal; in a pipe one table after another, from the
    first one with rates.
    """
    if not sys.stdout.isatty():

        def print_() -> None:
            if found.is_rated:
                click.echo("\n".join(lines()))

        return print_
    width, height = size_of_stdout()
    screen = Screen(width)

    def redraw() -> None:
        click.echo(screen.draw(fitting(lines(), height)), nl=False)

    return redraw
