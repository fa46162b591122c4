"""`pyswarm image search` and `pyswarm search`."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click
import msgspec

from cli import flags, session
from cli.lazy import Verb
from pyswarm_core.errors import InvalidArgument, PyswarmError, invalid

LIMIT = 25
LIMIT_MAX = 100
_DESCRIPTION = 45
_HEADINGS = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "StarCount": "STARS",
    "IsOfficial": "OFFICIAL",
    "IsAutomated": "AUTOMATED",
}
_FLAGS = ("is-official", "is-automated")


class Found(msgspec.Struct, frozen=True):
    """A repository, as Docker's search API describes it; a catalog has the name alone."""

    name: str
    description: str = ""
    star_count: int = 0
    is_official: bool = False
    is_automated: bool = False


@click.command(
    cls=Verb,
    help="Search the fleet's registry, or the one that TERM names, for images\n\n"
    "Docker Hub is searched as docker.io/WORD.\n\n"
    "Example: pyswarm search nginx",
)
@flags.filter_
@flags.format_
@click.option(
    "--limit",
    type=flags.Number(1, LIMIT_MAX),
    default=LIMIT,
    metavar="NUMBER",
    help="Max number of search results (default 25)",
)
@flags.no_trunc
@click.argument("term")
def search(*, filters: tuple[str, ...], form: str, limit: int, no_trunc: bool, term: str) -> None:
    from cli.render.listing import Layout, show
    from cli.render.output import echo_lines

    passes = parsed(filters)
    registry, word = split(term)
    found = _foreign(registry, word) if registry else _own(word)
    chosen = [one for one in found if all(one_passes(one, *each) for each in passes)][:limit]
    columns = ("Name", "Description", "StarCount", "IsOfficial")
    layout = Layout(headings=_HEADINGS, columns=columns, quiet="Name")
    echo_lines(show(layout, list(rows(chosen, long=no_trunc)), form))


def split(term: str) -> tuple[str, str]:
    """The registry that a term names, empty for the fleet's own, and the word."""
    first, slash, rest = term.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first):
        return first, rest
    return "", term


def parsed(filters: Iterable[str]) -> list[tuple[str, str]]:
    """The filters. Raises InvalidArgument."""
    found = []
    for text in filters:
        key, _, value = text.partition("=")
        is_known = (key in _FLAGS and value in ("true", "false")) or (
            key == "stars" and value.isascii() and value.isdecimal()
        )
        if not is_known:
            expected = "expected stars=NUMBER, is-official=true|false or is-automated=true|false"
            raise invalid("--filter", text, expected)
        found.append((key, value))
    return found


def one_passes(one: Found, key: str, value: str) -> bool:
    """Whether it passes one filter."""
    if key == "stars":
        return one.star_count >= int(value)
    known = one.is_official if key == "is-official" else one.is_automated
    return known == (value == "true")


def rows(found: Sequence[Found], *, long: bool) -> Iterator[dict[str, Any]]:
    """The rows of the table."""
    from cli.render.listing import ellipsis

    for one in found:
        text = " ".join(one.description.split())
        yield {
            "Name": one.name,
            "Description": text if long else ellipsis(text, _DESCRIPTION),
            "StarCount": str(one.star_count),
            "IsOfficial": "[OK]" if one.is_official else "",
            "IsAutomated": "[OK]" if one.is_automated else "",
        }


def _own(word: str) -> list[Found]:
    """Of the fleet's registry."""
    from cli.image.listing import split as split_name
    from cli.image.transfer.sources import catalog, tags_of
    from cli.registry.opening import opened
    from pyswarm_core.docker.reference import parse_reference
    from pyswarm_core.registry.names import name_of

    found = []
    with opened(session.connection()) as registry:
        for repository in catalog(registry):
            try:
                full = name_of(repository)
            except InvalidArgument:
                continue
            name = split_name(full)[0]
            # A repository whose tags were removed stays in the catalog.
            if word in name and tags_of(registry, parse_reference(full)):
                found.append(Found(name))
    return sorted(found, key=lambda one: one.name)


def _foreign(registry: str, word: str) -> list[Found]:
    """Of another registry: by Docker's search API, else by its catalog. Raises PyswarmError."""
    from cli.image.transfer.remote import Remote
    from cli.service.spec.logins import login_for
    from pyswarm_core.docker.reference import parse_reference

    remote = Remote(registry, login_for(parse_reference(f"{registry}/any/any"), os.environ))
    try:
        return remote.search(word)
    except PyswarmError as error:
        raise type(error)(f"{registry} cannot be searched: {error}") from None
