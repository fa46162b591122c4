"""The flags of both verbs, with Docker's names and help; some are of kubectl and Compose."""

from collections.abc import Callable
from typing import Any, TypeVar

import click
from msgspec.structs import replace

from cli.times import instant
from pyswarm_core.errors import invalid
from pyswarm_core.logs.patterns import pattern
from pyswarm_core.views import ANY_TIME, LogsQuery

F = TypeVar("F", bound=Callable[..., Any])

EVERYTHING = -1
TAIL_MAX = 2**31 - 1

FOLLOW = click.option("-f", "--follow", is_flag=True, help="Follow log output")
TAIL = click.option(
    "-n",
    "--tail",
    default="all",
    metavar="LINES",
    help="Number of lines to show from the end of the logs of each container",
)
SINCE = click.option(
    "--since",
    default="",
    metavar="TIME",
    help="Show logs since timestamp (2026-01-31T08:00:00Z) or relative (10m)",
)
UNTIL = click.option(
    "--until",
    default="",
    metavar="TIME",
    help="Show logs before a timestamp (2026-01-31T08:00:00Z) or relative (10m)",
)
_OPTIONS = (
    FOLLOW,
    TAIL,
    SINCE,
    UNTIL,
    click.option(
        "--grep",
        default=None,
        metavar="PATTERN",
        help="Show lines that match a regular expression (RE2)",
    ),
    click.option(
        "--previous",
        is_flag=True,
        help="Show the logs of the previous container, before a restart or update",
    ),
    click.option("-t", "--timestamps", is_flag=True, help="Show timestamps"),
    click.option(
        "--details", is_flag=True, help="Show extra details provided to logs (with --log-opt)"
    ),
    click.option("--no-log-prefix", is_flag=True, help="Do not print prefix in logs"),
)


def query_flags(command: F) -> F:
    """The flags of both verbs."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def query_of(
    ref: str,
    *,
    follow: bool,
    tail: str,
    since: str,
    until: str,
    grep: str | None,
    previous: bool,
    details: bool,
) -> LogsQuery:
    """The request. Raises InvalidArgument, and UsageError for flags that contradict each other."""
    if follow and previous:
        raise click.UsageError("--follow and --previous cannot be used together")
    if grep is not None:
        if not grep:
            raise invalid("--grep", grep, "expected a regular expression")
        pattern("--grep", grep)
    query = LogsQuery(
        ref,
        follow=follow,
        tail=parse_tail(tail),
        since=instant("--since", since) if since else ANY_TIME,
        grep=grep or "",
        previous=previous,
        details=details,
    )
    if not until:
        return query
    end = instant("--until", until)
    if query.since and end < query.since:
        raise invalid("--until", until, f"expected a time after --since {since}")
    return replace(query, until=end)


def parse_tail(tail: str) -> int:
    """Parse `all` or a number of lines. Raises InvalidArgument."""
    if tail == "all":
        return EVERYTHING
    if not tail.isascii() or not tail.isdecimal() or int(tail[:12]) > TAIL_MAX:
        raise invalid("--tail", tail, f"expected all, or 0 to {TAIL_MAX}")
    return int(tail)
