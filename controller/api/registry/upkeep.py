"""The registry's storage for `system df` and `system prune`, and a daily collection. SHELL."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress

from msgspec.structs import replace

from controller.api.registry.rules import images_of
from controller.brain.slices import Slices, batches
from controller.leader.leadership import Leader
from controller.registry.registry import NO_REGISTRY, FleetRegistry, NoRegistry
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import HOUR, seconds
from pyswarm_core.docker.reference import Reference
from pyswarm_core.errors import InvalidArgument, PyswarmError, Unavailable
from pyswarm_core.kinds import STACK
from pyswarm_core.registry.names import name_of, repository_of
from pyswarm_core.registry.usage import RegistryTag, RegistryUsage
from pyswarm_core.state import State

_log = EventLog("controller.registry")

COLLECT_PERIOD = 24 * HOUR
RETRY_PERIOD = HOUR
SERVICES_AT_ONCE = 200
"""Services in one slice."""
REPOSITORIES_SHOWN = 1_000
"""Of one answer."""


def needed_images(state: State) -> Slices[frozenset[str]]:
    """The digests that services, and their earlier specs, name, and versions of stacks to which
    these may return; REPOSITORY:TAG where they name none.
    """
    found: dict[str, None] = {}
    for services in batches(tuple(state.services.values()), SERVICES_AT_ONCE):
        for service in services:
            for spec in (service.spec, *(one.spec for one in service.previous_specs)):
                found.update((key, None) for one in images_of(spec) for key in _keys(one))
        yield
    for stack in tuple(state.of(STACK).values()):
        for content in (stack.spec, *(one.spec for one in stack.previous_specs)):
            for spec in content.services:
                found.update((key, None) for one in images_of(spec) for key in _keys(one))
            yield
    return frozenset(found)


def _keys(image: Reference) -> Iterator[str]:
    if image.digest:
        yield image.digest
        return
    with suppress(InvalidArgument):  # the registry has no such name
        yield f"{repository_of(image)}:{image.tag}"


async def tags(registry: FleetRegistry | NoRegistry) -> list[RegistryTag]:
    """The tags of the registry of this controller; without one, none."""
    if isinstance(registry, NoRegistry):
        return []
    found = []
    for repository, tag, digest in await registry.upkeep.tags():
        with suppress(InvalidArgument):  # no image has such a name
            found.append(RegistryTag(name_of(repository), tag, digest))
    return found


async def usage(
    leader: Leader, registry: FleetRegistry | NoRegistry, *, by_repository: bool
) -> RegistryUsage:
    """What the registry of this controller uses; of a controller without one, nothing."""
    if isinstance(registry, NoRegistry):
        return RegistryUsage()
    needed = await leader.watches.runner.run(needed_images(leader.state))
    found = await registry.upkeep.usage(needed)
    known = found.repositories if by_repository else ()
    shown = known[:REPOSITORIES_SHOWN]
    return replace(
        found,
        address=registry.state.address,
        repositories=tuple(replace(one, name=_named(one.name)) for one in shown),
        more=len(known) - len(shown),
    )


def _named(repository: str) -> str:
    """As images are named."""
    try:
        return name_of(repository)
    except InvalidArgument:
        return repository


async def collect(leader: Leader, registry: FleetRegistry | NoRegistry) -> int:
    """Remove what no tag and no service names; return the bytes that are free now. Raises Conflict
    while users push, Unavailable if it failed or there is no registry.
    """
    if isinstance(registry, NoRegistry):
        raise Unavailable(NO_REGISTRY)

    async def needed() -> frozenset[str]:
        return await leader.watches.runner.run(needed_images(leader.state))

    return await registry.upkeep.collect(needed)


async def keep_collected(leader: Leader, registry: FleetRegistry | NoRegistry) -> None:
    """Collect garbage once a day, for a term. Users need not have pushed since: it costs nothing
    then.
    """
    if isinstance(registry, NoRegistry):
        return
    period = RETRY_PERIOD
    while True:
        await asyncio.sleep(seconds(period))
        try:
            await collect(leader, registry)
            period = COLLECT_PERIOD
        except (OSError, PyswarmError) as error:
            _log.warning("registry.collect_failed", error=error)
            period = RETRY_PERIOD
