"""Looks up, through agents, the digest of a service's image. SHELL.

A tag may move, and each host that pulls it later would get another image: so the digest goes into
the spec. One agent is asked, the next one when it fails or is slow, because not every host reaches
every registry. If none finds the digest, the service is created with the tag and a warning.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from zlib import crc32

from msgspec.structs import replace

from controller.api.images.targets import eligible_nodes
from controller.leader.exchanges import IMAGE_RESOLVE, ImageResolve
from controller.leader.leadership import Leader
from pyswarm_core.docker.reference import Reference, parse_reference
from pyswarm_core.errors import PyswarmError
from pyswarm_core.ids import NodeId
from pyswarm_core.limits import RESOLVERS_ASKED, RESOLVES_AT_ONCE
from pyswarm_core.specs import RegistryLogin, ServiceSpec
from pyswarm_core.validation import require, service_problems

TIMEOUT_S = 5.0
"""The longest wait of a user for a registry."""
PATIENCE_S = 1.5
"""The wait after which the next agent is asked as well."""

_slots = asyncio.Semaphore(RESOLVES_AT_ONCE)


async def pinned(
    leader: Leader, spec: ServiceSpec, login: RegistryLogin | None
) -> tuple[ServiceSpec, tuple[str, ...]]:
    """The spec with its image's digest, or unchanged with a warning.

    Raises InvalidArgument for a spec that is not valid.
    """
    require(service_problems(spec if spec.name else replace(spec, name="unnamed")))
    image = parse_reference(spec.task_template.container_spec.image)
    if image.digest:
        return spec, ()
    nodes = _in_turn(eligible_nodes(leader.state, spec), image)
    digest = ""
    with suppress(TimeoutError):
        async with asyncio.timeout(TIMEOUT_S), _slots:
            digest = await _first_answer(leader, nodes, _request(image, login))
    if not digest:
        return spec, (_warning(image.familiar),)
    container = replace(spec.task_template.container_spec, image=image.pinned(digest).familiar)
    return replace(spec, task_template=replace(spec.task_template, container_spec=container)), ()


def _warning(image: str) -> str:
    return (
        f"image {image} could not be accessed on a registry to record its digest. Each node will"
        f" access {image} independently, possibly leading to different nodes running different"
        " versions of the image."
    )


def _in_turn(nodes: Sequence[NodeId], image: Reference) -> list[NodeId]:
    """The nodes to ask, starting at a node that depends on the image."""
    start = crc32(str(image).encode()) % max(1, len(nodes))
    return [*nodes[start:], *nodes[:start]][:RESOLVERS_ASKED]


def _request(image: Reference, login: RegistryLogin | None) -> ImageResolve:
    if login is None or login.registry != image.registry:
        return ImageResolve(str(image))
    return ImageResolve(str(image), login.username, login.password)


async def _first_answer(leader: Leader, nodes: Sequence[NodeId], request: ImageResolve) -> str:
    """The first digest that an agent finds; empty if none does."""
    answers: asyncio.Queue[str] = asyncio.Queue(RESOLVERS_ASKED)
    digest, answered = "", 0

    async def ask(node_id: NodeId) -> None:
        await answers.put(await _ask(leader, node_id, request))

    async with asyncio.TaskGroup() as group:
        asked = []
        for node_id in nodes:
            asked.append(group.create_task(ask(node_id)))
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    digest = await answers.get()
                answered += 1
            if digest:
                break
        while not digest and answered < len(asked):
            digest = await answers.get()
            answered += 1
        for task in asked:
            task.cancel()
    return digest


async def _ask(leader: Leader, node_id: NodeId, request: ImageResolve) -> str:
    with suppress(PyswarmError):
        async with leader.tunnels.open(node_id, IMAGE_RESOLVE, request) as tunnel:
            while (images := await tunnel.read(TIMEOUT_S)) is not None:
                for image in images:
                    return image.digest
    return ""
