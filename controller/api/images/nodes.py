"""Pulls, lists and removes images on nodes. SHELL.

A node's failure is reported among the others' results and does not stop them. The number of
concurrent requests and the time of each answer are bounded.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from controller.api.images.targets import ImageName, parse_image_filters, passes, target_nodes
from controller.api.streams import Send
from controller.brain.slices import batches
from controller.leader.exchanges import (
    IMAGE_LIST,
    IMAGE_PULL,
    IMAGE_REMOVE,
    Exchange,
    ImageList,
    ImagePull,
    ImageRemove,
)
from controller.leader.leadership import Leader
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import NotFound, PyswarmError, Unavailable, quoted
from pyswarm_core.limits import IMAGES_PER_NODE_MAX
from pyswarm_core.objects import Node
from pyswarm_core.views import Image, ImageProgress, NodeImageProgress

R = TypeVar("R")
Q = TypeVar("Q", ImageList, ImageRemove)
NODES_AT_ONCE = 32
IMAGES_AT_ONCE = 10
"""Images that are compared with up to a hundred patterns before others run."""
LIST_TIMEOUT_S = 10.0
REMOVE_TIMEOUT_S = 60.0
SILENCE_MAX_S = 300.0
"""A pull without progress for this long has failed."""


class Pull(msgspec.Struct, frozen=True):
    """The image to pull, and the nodes. Has the fields of the request's message."""

    reference: str
    username: str = ""
    password: str = ""
    nodes: tuple[str, ...] = ()


class ImagesOfNode(msgspec.Struct):
    """The images of one node, or its error."""

    node_name: str
    images: list[Image] = []
    """As the agent sent them: there may be thousands."""
    error: str = ""


async def pull_image(leader: Leader, request: Pull, send: Send[NodeImageProgress]) -> None:
    """Pull on the nodes (by default all that are ready); send each one's progress.

    Raises InvalidArgument for the reference, NotFound for a node, Unavailable if there is no node.
    """
    reference = str(parse_reference(request.reference))
    nodes = _targets(leader, request.nodes)
    pull = ImagePull(reference, request.username, request.password)

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

    await _on_each(nodes, on)


async def list_images(leader: Leader, given: Sequence[str], send: Send[ImagesOfNode]) -> None:
    """Send each node's images, or its error, as they answer.

    Raises InvalidArgument, NotFound.
    """
    filters = parse_image_filters(given)
    nodes = target_nodes(leader.state, filters.get("node", ()))

    async def on(node: Node) -> None:
        try:
            result = await _asked(leader, node, IMAGE_LIST, ImageList(), LIST_TIMEOUT_S)
        except PyswarmError as error:
            result = ImagesOfNode(node.description.hostname, error=str(error))
        kept = []
        for part in batches(result.images, IMAGES_AT_ONCE):
            kept += [image for image in part if passes(ImageName(image.id, image.names), filters)]
            await asyncio.sleep(0)
        await send(ImagesOfNode(result.node_name, kept, result.error))

    await _on_each(nodes, on)


async def remove_image(leader: Leader, reference: str) -> list[ImagesOfNode]:
    """Remove the image on every ready node; the removed names by node, for nodes that had it.

    Raises InvalidArgument for the reference, NotFound if no node has it.
    """
    normalised = str(parse_reference(reference))
    nodes = _targets(leader, ())
    absent: list[Node] = []

    async def on(node: Node) -> ImagesOfNode | None:
        removal = ImageRemove(normalised)
        try:
            return await _asked(leader, node, IMAGE_REMOVE, removal, REMOVE_TIMEOUT_S)
        except NotFound:
            absent.append(node)
        except PyswarmError as error:
            return ImagesOfNode(node.description.hostname, error=str(error))
        return None

    replies = await _on_each(nodes, on)
    if len(absent) == len(nodes):
        raise NotFound(f"no such image on any node: {quoted(reference)}")
    return [reply for reply in replies if reply is not None]


def _targets(leader: Leader, refs: Sequence[str]) -> list[Node]:
    nodes = target_nodes(leader.state, refs)
    if not nodes:
        raise Unavailable("no node is ready")
    return nodes


async def _asked(
    leader: Leader,
    node: Node,
    exchange: Exchange[Q, Sequence[Image]],
    request: Q,
    timeout_s: float,
) -> ImagesOfNode:
    result = ImagesOfNode(node.description.hostname)
    async with leader.tunnels.open(node.id, exchange, request) as tunnel:
        while (images := await tunnel.read(timeout_s)) is not None:
            result.images.extend(images)
            if len(result.images) > IMAGES_PER_NODE_MAX:
                raise Unavailable(f"it lists more than {IMAGES_PER_NODE_MAX} images")
    return result


async def _on_each(nodes: Sequence[Node], work: Callable[[Node], Awaitable[R]]) -> list[R]:
    """The results in the nodes' order, NODES_AT_ONCE at a time."""
    slots = asyncio.Semaphore(NODES_AT_ONCE)

    async def one(node: Node) -> R:
        async with slots:
            return await work(node)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(node)) for node in nodes]
    return [task.result() for task in tasks]
