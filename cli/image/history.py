"""`pyswarm image history` and `pyswarm history`."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from cli import flags, session
from cli.image import refused
from cli.image.inspect import PLATFORM
from cli.lazy import Verb
from pyswarm_core.clock import Instant

if TYPE_CHECKING:
    from cli.render.listing import Row
    from pyswarm_core.docker.images import Step

_HEADINGS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
_BY_LENGTH = 45
_COMMENT_LENGTH = 45


@click.command(
    cls=Verb,
    help="Show the history of an image\n\nExample: pyswarm history --no-trunc web:1",
)
@click.option(
    "-H", "--human/--no-human", default=True, help="Print sizes and dates in human readable format"
)
@flags.no_trunc
@click.option("-q", "--quiet", is_flag=True, help="Only show image IDs")
@flags.format_
@click.argument("image")
def history(*, human: bool, no_trunc: bool, quiet: bool, form: str, image: str) -> None:
    from cli.image.finding import inspected
    from cli.render.listing import Layout, show
    from cli.render.output import echo_lines
    from pyswarm_core.aio.system import SystemClock
    from pyswarm_core.docker import images

    found = inspected(session.connection(), image)
    now = SystemClock().now()
    shown = list(rows(images.history(found), now, human=human, long=no_trunc))
    created = "CreatedSince" if human else "CreatedAt"
    columns = ("ID", created, "CreatedBy", "Size", "Comment")
    echo_lines(show(Layout(headings=_HEADINGS, columns=columns), shown, form, quiet=quiet))


history.params.append(refused.valued("--platform", PLATFORM))


def rows(steps: "Iterable[Step]", now: Instant, *, human: bool, long: bool) -> "Iterator[Row]":
    """The rows of the table."""
    from cli.render.listing import ellipsis
    from pyswarm_core.docker.units import ago, decimal_size, parse_time
    from pyswarm_core.errors import InvalidArgument

    for step in steps:
        try:
            since = ago(parse_time(step.created, now), now) if step.created else "N/A"
        except InvalidArgument:
            since = "N/A"
        is_id = not step.id.startswith("<")
        by, comment = (" ".join(text.split()) for text in (step.created_by, step.comment))
        yield {
            "ID": step.id if not is_id else f"sha256:{step.id}" if long else step.id[:12],
            "CreatedSince": since,
            "CreatedAt": step.created or "N/A",
            "CreatedBy": by if long else ellipsis(by, _BY_LENGTH),
            "Size": decimal_size(step.size_bytes) if human else str(step.size_bytes),
            "Comment": comment if long else ellipsis(comment, _COMMENT_LENGTH),
        }
