"""`pyswarm audit`."""

from collections.abc import Iterable, Iterator, Sequence

import click

from cli import flags, session
from cli.lazy import Verb
from cli.render import listing
from cli.render.listing import GAP, Layout, Row, ellipsis
from cli.times import instant
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.errors import invalid
from pyswarm_core.identity.audit import AuditRecord, FieldChange, fields_of

CHANGE_SHOWN = 60
RESULT_SHOWN = 40
"""Characters of the columns that may be long, unless --no-trunc is given."""

LAYOUT = Layout(
    headings={
        "Sequence": "SEQUENCE",
        "Time": "TIME",
        "Caller": "CALLER",
        "CallerKind": "CALLER KIND",
        "CallerID": "CALLER ID",
        "Role": "ROLE",
        "Address": "ADDRESS",
        "Verb": "VERB",
        "Object": "OBJECT",
        "Kind": "KIND",
        "ID": "ID",
        "Name": "NAME",
        "Version": "VERSION",
        "Change": "CHANGE",
        "Changes": "CHANGES",
        "Omitted": "OMITTED",
        "Result": "RESULT",
        "Skipped": "SKIPPED",
    },
    columns=("Time", "Caller", "Address", "Verb", "Object", "Change", "Result"),
)
WIDTHS = (20, 16, 15, 16, 20, CHANGE_SHOWN, 2)
"""The least widths of the columns: lines of a log that goes on are printed one by one."""


@click.command(
    cls=Verb,
    help="Show who changed what, from the audit log\n\n"
    "Example: pyswarm audit --since 24h --user alice --object service/web",
)
@click.option("-f", "--follow", is_flag=True, help="Follow the log")
@click.option("--since", default="", metavar="TIME", help="Show records since timestamp")
@click.option("--until", default="", metavar="TIME", help="Show records until this timestamp")
@click.option(
    "--user",
    "users",
    multiple=True,
    metavar="NAME",
    help="Show requests of this caller (repeatable)",
)
@click.option(
    "--object",
    "objects",
    multiple=True,
    metavar="REF",
    help="Show requests about this object: KIND/NAME, a name or an id (repeatable)",
)
@flags.no_trunc
@flags.format_
def audit(
    *,
    follow: bool,
    since: str,
    until: str,
    users: tuple[str, ...],
    objects: tuple[str, ...],
    no_trunc: bool,
    form: str,
) -> None:
    start = instant("--since", since) if since else 0
    end = instant("--until", until) if until else 0
    if start and end and end < start:
        raise invalid("--until", until, f"expected a time after --since {since}")
    goes_on = follow and (not end or end > SystemClock().now())
    listing.show(LAYOUT, (), form)  # an error in the format before the request
    found = session.connect().audit(
        since=start, until=end, users=users, objects=objects, follow=goes_on
    )
    rows = (fields_of(one) if form == "json" else row(one, long=no_trunc) for one in found)
    for line in _followed(rows, form) if goes_on else listing.show(LAYOUT, list(rows), form):
        click.echo(line)


def row(record: AuditRecord, *, long: bool) -> Row:
    """The record's placeholders."""
    change, result = changes_of(record), record.result
    if record.skipped:
        result = f"{result} (and {record.skipped} more refused before)"
    return {
        **fields_of(record),
        "Time": _to_seconds(record),
        "Change": change if long else ellipsis(change, CHANGE_SHOWN),
        "Result": result if long else ellipsis(result, RESULT_SHOWN),
    }


def changes_of(record: AuditRecord) -> str:
    """`Image web:1 -> web:2, Env +A=1 -B=2`."""
    told = [_change(one) for one in record.changes]
    if record.omitted:
        told.append(f"and {record.omitted} more")
    return ", ".join(told)


def _change(change: FieldChange) -> str:
    if not change.before:
        return f"{change.field}: {change.after}"
    return f"{change.field}: {change.before} -> {change.after or 'none'}"


def _to_seconds(record: AuditRecord) -> str:
    whole, _, _ = str(fields_of(record)["Time"]).partition(".")
    return f"{whole}Z"


def _followed(rows: Iterable[Row], form: str) -> Iterator[str]:
    """The lines of a list that goes on; columns are as wide as those of the widest row so far."""
    if form not in ("", "table"):
        shown = (listing.show(LAYOUT, (each,), form) for each in rows)
        # A table's heading is printed once.
        for number, lines in enumerate(shown):
            yield from lines if number == 0 else lines[-1:]
        return
    widths = list(WIDTHS)
    yield _line([LAYOUT.headings[column] for column in LAYOUT.columns], widths)
    for each in rows:
        yield _line([listing.one_line(str(each[column])) for column in LAYOUT.columns], widths)


def _line(cells: Sequence[str], widths: list[int]) -> str:
    widths[:] = [max(width, len(cell)) for width, cell in zip(widths, cells, strict=True)]
    return "".join(
        f"{cell:<{width + GAP}}" for cell, width in zip(cells, widths, strict=True)
    ).rstrip()
