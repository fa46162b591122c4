"""`pyswarm system prune`."""

from typing import TYPE_CHECKING

import click

from cli.lazy import Verb
from cli.verbs import pruning

if TYPE_CHECKING:
    from cli.client import Client
    from cli.failures import Failures
    from cli.system.unused import Unused

TRIES = 20
PAUSE_S = 0.5
"""Nodes keep the image of a removed container until its layer is deleted."""


@click.command(
    cls=Verb,
    help="Remove unused data: stopped containers, unused networks, dangling images and build cache;"
    " with --all all unused images and the garbage of the fleet's registry, with --volumes unused"
    " anonymous volumes\n\n"
    "Example: pyswarm system prune --all --filter until=24h",
)
@click.option(
    "-a", "--all", "every", is_flag=True, help="Remove all unused images not just dangling ones"
)
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and remove nothing")
@pruning.filters
@pruning.force
@click.option("--volumes", is_flag=True, help="Prune anonymous volumes")
def prune(
    *, every: bool, dry_run: bool, filters: tuple[str, ...], force: bool, volumes: bool
) -> None:
    from cli import session
    from cli.failures import Failures
    from cli.system.held import held
    from cli.system.unused import What, listed, unused, warning
    from pyswarm_core.aio.system import SystemClock
    from pyswarm_core.docker.units import decimal_size
    from pyswarm_core.errors import invalid
    from pyswarm_core.kinds import NETWORK

    choose = pruning.chosen(filters)
    until = next((text for text in filters if text.startswith("until=")), "")
    if until and volumes:
        raise invalid("--filter", until, "the until filter is not supported with --volumes")
    what = What(all_images=every, volumes=volumes, filters=filters)
    client = session.connect()
    networks = client.objects(NETWORK, ("dangling=true",))
    has = held(client, by_repository=what.collects, steps=every)
    found = unused(has, networks, what, choose, SystemClock().now())
    if dry_run or not force:
        named = list(listed(found))
        lines = [*warning(what), *([""] if named else []), *named]
        if dry_run:
            lines[0] = "This would remove:"
        for line in lines:
            click.echo(line)
        click.echo(f"\nTotal reclaimable space: {decimal_size(found.bytes)}")
    if dry_run or not (force or click.confirm("\nAre you sure you want to continue?")):
        return
    with Failures() as failures:
        freed = _remove(client, found, failures)
    click.echo(f"Total reclaimed space: {decimal_size(freed)}")


def _remove(client: "Client", found: "Unused", failures: "Failures") -> int:
    """Remove all of it, and return the bytes that are free then."""
    freed = _containers(client, found)
    _networks(client, found)
    freed += _volumes(client, found, failures)
    freed += _images(client, found, failures)
    return freed + _registry(client, found, failures)


def _containers(client: "Client", found: "Unused") -> int:
    from cli import converge
    from cli.converge import Watched

    watched = [Watched.of(client.remove_service(one.service_id)) for one in found.containers]
    if watched:
        click.echo("Deleted Containers:")
        for one in found.containers:
            click.echo(one.id)
        converge.until_gone(client, watched, quiet=True)
        click.echo()
    return sum(max(0, one.size_rw) for one in found.containers)


def _networks(client: "Client", found: "Unused") -> None:
    from pyswarm_core.errors import Conflict, NotFound
    from pyswarm_core.kinds import NETWORK

    removed = []
    for network in found.networks:
        try:
            client.remove_object(NETWORK, network.id)
        except (Conflict, NotFound):
            continue  # it was joined or removed since it was listed
        removed.append(network.spec.name)
    if removed:
        click.echo("\n".join(("Deleted Networks:", *removed, "")))


def _volumes(client: "Client", found: "Unused", failures: "Failures") -> int:
    from pyswarm_core.kinds import VOLUME

    freed = 0
    if found.volumes:
        click.echo("Deleted Volumes:")
    for volume in found.volumes:
        with failures.collected():
            client.remove_object(VOLUME, volume.id)
            click.echo(volume.spec.name)
            freed += volume.size or 0
    if found.volumes:
        click.echo()
    return freed


def _registry(client: "Client", found: "Unused", failures: "Failures") -> int:
    """Collect the garbage of the fleet's registry."""
    from cli.image import calls
    from pyswarm_core.docker.units import decimal_size

    freed = 0
    if found.registry.reclaimable:
        with failures.collected():
            freed = calls.collect_registry(client)
            click.echo(f"Deleted images of the registry: {decimal_size(freed)}\n")
    return freed


def _images(client: "Client", found: "Unused", failures: "Failures") -> int:
    """Remove the images of each node; a removed container may hold its image for a moment."""
    import time

    from cli.image import calls
    from cli.image.rm import show
    from pyswarm_core.images.views import NodeImageIds

    names = dict.fromkeys((*found.images, *found.cache))
    left = {node: [image.id for image in found.images.get(node, ())] for node in names}
    freed, loose, titled = 0, bool(found.cache), False
    for turn in range(TRIES if found.containers else 1):
        if not left:
            break
        time.sleep(PAUSE_S if turn else 0)
        asked = [
            NodeImageIds(node, tuple(ids), loose=loose and not turn) for node, ids in left.items()
        ]
        for node in calls.prune(client, asked):
            if any(image.deleted for image in node.images) and not titled:
                click.echo("Deleted Images:")
                titled = True
            show(node, failures, ("untagged", "deleted"))
            freed += sum(image.reclaimed_bytes for image in node.images)
            done = {image.id for image in node.images}
            ids = left.pop(node.node_name, [])
            left[node.node_name] = [] if node.error else [one for one in ids if one not in done]
        left = {node: ids for node, ids in left.items() if ids}
    if titled:
        click.echo()
    return freed
