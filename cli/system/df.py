"""`pyswarm system df`."""

from collections.abc import Iterator
from typing import Any

import click

from cli import flags
from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Show disk usage: of the whole fleet, then by node; with --verbose of each image,"
    " container and volume\n\nExample: pyswarm system df --verbose",
)
@flags.format_
@click.option("-v", "--verbose", is_flag=True, help="Show detailed information on space usage")
def df(*, form: str, verbose: bool) -> None:
    from cli import session
    from cli.failures import Failures
    from cli.render import listing
    from cli.render.output import echo_lines
    from cli.system import usage
    from cli.system.held import held
    from pyswarm_core.errors import invalid

    if verbose and form not in ("", "table", "json"):
        raise invalid("--format", form, "expected json or table with --verbose")
    if not verbose:
        listing.show(usage.TOTALS, [], form)  # refuses a wrong format before anything is measured
    client = session.connect()
    found = held(client, by_repository=verbose)
    if verbose:
        for line in _verbose(client, found, form):
            click.echo(line)
    else:
        echo_lines(listing.show(usage.TOTALS, usage.totals(found), form))
        if form in ("", "table"):
            click.echo()
            echo_lines(listing.show(usage.NODES, usage.by_node(found)))
            if registry := usage.registry(found):
                click.echo()
                echo_lines(listing.show(usage.REGISTRY, registry))
    with Failures() as failures:
        for node in found.images:
            if node.error:
                failures.of_node(node.node_name, node.error)


def _verbose(client: Any, found: Any, form: str) -> Iterator[str]:
    from cli.render import listing
    from cli.system import usage
    from cli.volume.hosts import users_of
    from pyswarm_core.aio.system import SystemClock
    from pyswarm_core.docker.units import decimal_size

    now = SystemClock().now()
    parts = {
        "Images": (usage.IMAGES, list(usage.images(found, now))),
        "Containers": (usage.CONTAINERS, list(usage.containers(found, now))),
        "Local Volumes": (usage.VOLUMES, list(usage.volumes(found, users_of(client)))),
    }
    registry = usage.registry(found)
    if registry:
        parts["Registry"] = (usage.REPOSITORIES, list(usage.repositories(found)))
    if form == "json":
        import msgspec

        document: dict[str, Any]
        document = {title.rpartition(" ")[2]: rows for title, (_, rows) in parts.items()}
        document["Nodes"] = usage.by_node(found)
        for row in registry:
            document["Registry"] = {**row, "Repositories": document["Registry"]}
        yield msgspec.json.encode(document).decode()
        return
    for title, (layout, rows) in parts.items():
        yield f"{title} space usage:"
        yield ""
        yield from listing.show(layout, rows)
        yield ""
    if found.registry.more:
        yield f"and {found.registry.more} smaller repositories"
        yield ""
    cache = usage.total(map(usage.of_cache, found.images))
    yield f"Build cache usage: {decimal_size(cache.size)}"
    yield ""
    yield from listing.show(usage.NODES, usage.by_node(found))
    if registry:
        yield ""
        yield from listing.show(usage.REGISTRY, registry)
