"""Pulls and lists images on nodes. SHELL.

A node's failure is reported among the others' results and does not stop them. The number of
concurrent requests and the time of each answer are bounded.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec

from controller.api.images.choosing import users_of
from controller.api.images.targets import (
    RELATIVE,
    parse_image_filters,
    passes,
    relative,
    target_nodes,
)
from controller.api.images.users import Shows, Users, everything, image_users
from controller.api.queries.filters import Filters
from controller.api.streams import Send
from controller.brain.slices import batches
from controller.leader.exchanges import (
    IMAGE_LIST,
    IMAGE_PULL,
    ImageList,
    ImagePull,
)
from controller.leader.leadership import Leader
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import PyswarmError, Unavailable, invalid
from pyswarm_core.images.views import (
    Image,
    ImageProgress,
    ImageUse,
    NodeImageProgress,
    PullImage,
)
from pyswarm_core.limits import IMAGES_PER_NODE_MAX
from pyswarm_core.objects import Node

R = TypeVar("R")
N = TypeVar("N")
NODES_AT_ONCE = 32
IMAGES_AT_ONCE = 100
"""Images of a list before others run."""
COMPARED_AT_ONCE = 10
"""Images that are compared with up to a hundred patterns before others run."""
LIST_TIMEOUT_S = 10.0
_PLATFORM = re.compile(r"[a-z0-9]{1,32}(/[a-z0-9_]{1,32}){0,2}")
SILENCE_MAX_S = 300.0
"""A pull without progress for this long has failed."""


class ImagesOfNode(msgspec.Struct):
    """The images of one node, or its error."""

    node_name: str
    images: list[Image] = []
    """As the agent sent them: there may be thousands."""
    error: str = ""
    use: ImageUse | None = None
    """As the agent sent it."""


async def pull_image(leader: Leader, request: PullImage, send: Send[NodeImageProgress]) -> None:
    """Pull on the nodes (by default all that are ready); send each one's progress.

    Raises InvalidArgument for the reference, NotFound for a node, Unavailable if there is no node.
    """
    reference = str(parse_reference(request.reference))
    nodes = ready_nodes(leader, request.nodes)
    _require_platform(request.platform)
    pull = ImagePull(
        reference, request.username, request.password, request.platform, request.all_tags
    )

    async def on(node: Node) -> None:
        name = node.description.hostname
        progress, failure = ImageProgress(), ""
        try:
            async with leader.tunnels.open(node.id, IMAGE_PULL, pull) as tunnel:
                while (answer := await tunnel.read(SILENCE_MAX_S)) is not None:
                    progress = answer
                    await send(NodeImageProgress(name, progress))
        except PyswarmError as error:
            failure = str(error)
        await send(NodeImageProgress(name, progress, failure, done=True))

    await on_each(nodes, on)


def _require_platform(text: str) -> None:
    if text and not _PLATFORM.fullmatch(text):
        raise invalid("--platform", text, "expected OS[/ARCH[/VARIANT]], as in linux/arm64")


class Listing(NamedTuple):
    """Which images a list has."""

    filters: Sequence[str] = ()
    steps: bool = False
    """Those of a build's steps too."""
    shows: Shows = everything
    """If it is not everything: the images that these services need."""

    def has(self, image: Image) -> bool:
        """Whether the list may have an image, whose services are known."""
        if self.shows is not everything and not image.services:
            return False
        return self.steps or not image.step or bool(image.services)


async def list_images(leader: Leader, asked: Listing, send: Send[ImagesOfNode]) -> None:
    """Send each node's images with the services that need them, or its error, as they answer.

    Raises InvalidArgument, NotFound.
    """
    filters = parse_image_filters(asked.filters)
    nodes = target_nodes(leader.state, filters.get("node", ()))
    users = await leader.watches.runner.run(image_users(leader.state, asked.shows))
    bounds = {key: filters[key] for key in RELATIVE if key in filters}
    if bounds:
        found = await on_each(nodes, partial(images_of, leader))
        known = [image for node in found for image in node.images]
        passing = relative(known, bounds)
        for result in found:
            await send(await _shown(result, filters, users, passing, asked))
        return

    async def on(node: Node) -> None:
        result = await images_of(leader, node)
        await send(await _shown(result, filters, users, lambda _: True, asked))

    await on_each(nodes, on)


async def _shown(
    result: ImagesOfNode,
    filters: Filters,
    users: Users,
    passing: Callable[[Image], bool],
    asked: Listing,
) -> ImagesOfNode:
    kept: list[Any] = []
    for part in batches(result.images, COMPARED_AT_ONCE if filters else IMAGES_AT_ONCE):
        for image in part:
            if not filters or (passes(image, filters) and passing(image)):
                _name_users(image, users)
                if asked.has(image):
                    kept.append(image)
        await asyncio.sleep(0)
    return ImagesOfNode(result.node_name, kept, result.error, result.use)


def _name_users(image: Any, users: Users) -> None:
    """Set the services of an agent's message."""
    if image.services:
        del image.services[:]
    if found := users_of(image, users):
        image.services.extend(dict.fromkeys(user.title for user in found))


async def everywhere(leader: Leader) -> list[tuple[Node, ImagesOfNode]]:
    """The images of every ready node, or its error."""
    nodes = target_nodes(leader.state, ())
    return list(zip(nodes, await on_each(nodes, partial(images_of, leader)), strict=True))


async def images_of(leader: Leader, node: Node) -> ImagesOfNode:
    """The images of one node, or its error."""
    try:
        return await _reported(leader, node)
    except PyswarmError as error:
        return ImagesOfNode(node.description.hostname, error=str(error))


def ready_nodes(leader: Leader, refs: Sequence[str]) -> list[Node]:
    """The named nodes, by default all that are ready. Raises NotFound, Unavailable."""
    nodes = target_nodes(leader.state, refs)
    if not nodes:
        raise Unavailable("no node is ready")
    return nodes


async def _reported(leader: Leader, node: Node) -> ImagesOfNode:
    result = ImagesOfNode(node.description.hostname)
    async with leader.tunnels.open(node.id, IMAGE_LIST, ImageList()) as tunnel:
        while (report := await tunnel.read(LIST_TIMEOUT_S)) is not None:
            result.images.extend(report.images)
            result.use = report.use
            if len(result.images) > IMAGES_PER_NODE_MAX:
                raise Unavailable(f"it lists more than {IMAGES_PER_NODE_MAX} images")
    return result


async def on_each(items: Sequence[N], work: Callable[[N], Awaitable[R]]) -> list[R]:
    """The results in the order of the nodes, NODES_AT_ONCE at a time."""
    slots = asyncio.Semaphore(NODES_AT_ONCE)

    async def one(item: N) -> R:
        async with slots:
            return await work(item)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(item)) for item in items]
    return [task.result() for task in tasks]
