"""`pyswarm image ls` and `pyswarm images`."""

from typing import TYPE_CHECKING

import click

from cli import flags, session
from cli.failures import Failures
from cli.image import refused
from cli.lazy import Verb
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import InvalidArgument, PyswarmError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cli.calls.connection import Connection
    from cli.image.filtering import Filters
    from cli.image.listing import Entry
    from cli.render.listing import Row
    from pyswarm_core.registry.usage import RegistryTag

_TREE = "manifest lists are not listed by platform; use --format '{{.ID}} {{.Platform}}'"


@click.command(
    name="ls",
    cls=Verb,
    help="List images, with the nodes that have them and the services that need them\n\n"
    "Filters: reference, dangling, label, before, since, until, id, node.\n\n"
    "Example: pyswarm images --filter reference='web*'",
)
@click.option(
    "-a", "--all", "every", is_flag=True, help="Show all images (default hides intermediate images)"
)
@click.option("--digests", is_flag=True, help="Show digests")
@flags.quiet_ids
@flags.no_trunc
@flags.filter_
@flags.format_
@click.argument("repository", required=False, metavar="[REPOSITORY[:TAG]]")
def ls_(
    *,
    every: bool,
    digests: bool,
    quiet: bool,
    no_trunc: bool,
    filters: tuple[str, ...],
    form: str,
    repository: str | None,
) -> None:
    from cli.image import calls
    from cli.image.filtering import parsed

    if repository is not None:
        filters = (*filters, f"reference={_pattern(repository)}")
    connection = session.connection()
    chosen = parsed(connection, filters)
    answer = calls.images_asked(connection, chosen.sent, every=every)
    tags = calls.registry_tags_asked(connection) if chosen.ask_registry else None
    # What is needed only for the output is imported while the nodes answer.
    from cli.image import listing
    from cli.render.listing import show
    from cli.render.output import echo_lines
    from pyswarm_core.aio.system import SystemClock

    entries = listing.grouped(nodes := answer())
    if tags is not None:
        entries = _with_registry(connection, entries, chosen, tags)
    found = list(listing.rows(entries, SystemClock().now(), long=no_trunc, digests=digests))
    if patterns := [text[10:] for text in filters if text[:10] == "reference="]:
        found = [row for row in found if _is_asked(row, patterns)]
    if quiet:
        found = list({row["ID"]: row for row in found}.values())
    echo_lines(show(listing.layout(digests=digests), found, form, quiet=quiet))
    with Failures() as failures:
        for node in nodes:
            if node.error:
                failures.of_node(node.node_name, node.error)


def _is_asked(row: "Row", patterns: "Sequence[str]") -> bool:
    """Whether the row's own name passes: an image that passes may have other names too."""
    from fnmatch import fnmatchcase

    names = (row["Repository"], f"{row['Repository']}:{row['Tag']}")
    every = (*names, *(f"docker.io/library/{name}" for name in names))
    every = (*every, *(f"docker.io/{name}" for name in names))
    return any(fnmatchcase(name, one) for name in every for one in patterns)


def _with_registry(
    connection: "Connection",
    entries: "list[Entry]",
    filters: "Filters",
    tags: "Callable[[], list[RegistryTag]]",
) -> "list[Entry]":
    """With the images of the fleet's registry. One that fails costs a warning."""
    from cli.image import shared
    from cli.image.listing import Entry, with_registry

    try:
        tagged = [one for one in shared.named(tags()) if filters.passes_name(one.reference)]
        known = shared.known(connection, tagged)
    except PyswarmError as error:
        click.echo(f"warning: the images of the fleet's registry are missing: {error}", err=True)
        return entries
    found = []
    for one in tagged:
        of_it = known[one.digest]
        image_id = of_it.id or one.digest.removeprefix("sha256:")
        if not filters.passes(of_it, image_id):
            continue
        entry = Entry(image_id, of_it.created, of_it.size_bytes, one.digest, of_it.platform)
        found.append((str(one.reference), one.digest, entry))
    return with_registry(entries, found, shared.PLACE)


ls_.params.append(refused.switch("--tree", _TREE))


def _pattern(text: str) -> str:
    """The filter for `images REPOSITORY[:TAG]`. Raises InvalidArgument."""
    if "*" in text or "?" in text:
        return text
    reference = parse_reference(text)
    if reference.digest:
        raise InvalidArgument("REPOSITORY: expected no digest; use --filter id=… or --digests")
    named = reference.familiar
    return named if text.endswith(f":{reference.tag}") else named.removesuffix(f":{reference.tag}")
