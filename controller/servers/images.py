"""Asks nodes to pull, list and remove images. SHELL.

One node's failure is reported beside the others' results and stops nobody. A bounded number is
asked at once, and each has a bounded time to answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from controller.leadership import Leader
from controller.requests.image_targets import ImageName, parse_image_filters, passes, target_nodes
from controller.requests.slices import batches
from controller.servers.calls import Write
from pyswarm_core.api.v1 import control_pb2, dispatcher_pb2
from pyswarm_core.errors import NotFound, PyswarmError, Unavailable
from pyswarm_core.limits import IMAGES_PER_NODE_MAX
from pyswarm_core.objects import Node
from pyswarm_core.reference import parse_reference
from pyswarm_core.validation.problem import shown

R = TypeVar("R")
NODES_AT_ONCE = 32
IMAGES_AT_ONCE = 10
"""Images that are held against up to a hundred patterns before others run."""
LIST_TIMEOUT_S = 10.0
REMOVE_TIMEOUT_S = 60.0
SILENCE_MAX_S = 300.0
"""A pull that tells nothing for so long has failed."""


async def pull_image(leader: Leader, request: control_pb2.PullImageRequest, write: Write) -> None:
    """Have the nodes (if none is named, all that are ready) pull; write each one's progress.

    Raises InvalidArgument for the reference, NotFound for a node, Unavailable if there is no node.
    """
    reference = str(parse_reference(request.reference))
    nodes = _targets(leader, request.nodes)
    pull = dispatcher_pb2.ImagePull(
        reference=reference, username=request.username, password=request.password
    )

    async def on(node: Node) -> None:
        name = node.description.hostname
        ask = dispatcher_pb2.OpenTunnel(image_pull=pull)
        end = control_pb2.NodeImageProgress(node_name=name, done=True)
        try:
            async with leader.tunnels.open(node.id, ask) as tunnel:
                while (frame := await tunnel.read(SILENCE_MAX_S)) is not None:
                    progress = frame.image_progress
                    await write(control_pb2.NodeImageProgress(node_name=name, progress=progress))
                    end.progress.CopyFrom(progress)
        except PyswarmError as error:
            end.error = str(error)
        await write(end)

    await _on_each(nodes, on)


async def list_images(leader: Leader, wanted: Sequence[str], write: Write) -> None:
    """Write each node's images, or why it could not tell, as they answer.

    Raises InvalidArgument, NotFound.
    """
    filters = parse_image_filters(wanted)
    nodes = target_nodes(leader.state, filters.get("node", ()))

    async def on(node: Node) -> None:
        ask = dispatcher_pb2.OpenTunnel(image_list=dispatcher_pb2.ImageList())
        result = await _report(leader, node, ask, LIST_TIMEOUT_S)
        kept = []
        for part in batches(result.images, IMAGES_AT_ONCE):
            kept += [image for image in part if passes(ImageName(image.id, image.names), filters)]
            await asyncio.sleep(0)
        found = control_pb2.NodeImages(node_name=result.node_name, images=kept, error=result.error)
        await write(control_pb2.ListImagesReply(nodes=[found]))

    await _on_each(nodes, on)


async def remove_image(leader: Leader, reference: str) -> control_pb2.ListImagesReply:
    """Have every ready node remove the image; those that did not have it are not in the reply.

    Raises InvalidArgument for the reference, NotFound if no node has it.
    """
    normalised = str(parse_reference(reference))
    nodes = _targets(leader, ())
    absent: list[Node] = []

    async def on(node: Node) -> control_pb2.NodeImages:
        removal = dispatcher_pb2.ImageRemove(reference=normalised)
        ask = dispatcher_pb2.OpenTunnel(image_remove=removal)
        try:
            return await _asked(leader, node, ask, REMOVE_TIMEOUT_S)
        except NotFound:
            absent.append(node)
        except PyswarmError as error:
            return control_pb2.NodeImages(node_name=node.description.hostname, error=str(error))
        return control_pb2.NodeImages()

    replies = await _on_each(nodes, on)
    if len(absent) == len(nodes):
        raise NotFound(f"no such image on any node: {shown(reference)}")
    return control_pb2.ListImagesReply(nodes=[reply for reply in replies if reply.node_name])


def _targets(leader: Leader, refs: Sequence[str]) -> list[Node]:
    nodes = target_nodes(leader.state, refs)
    if not nodes:
        raise Unavailable("no node is ready")
    return nodes


async def _report(
    leader: Leader, node: Node, ask: dispatcher_pb2.OpenTunnel, timeout_s: float
) -> control_pb2.NodeImages:
    try:
        return await _asked(leader, node, ask, timeout_s)
    except PyswarmError as error:
        return control_pb2.NodeImages(node_name=node.description.hostname, error=str(error))


async def _asked(
    leader: Leader, node: Node, ask: dispatcher_pb2.OpenTunnel, timeout_s: float
) -> control_pb2.NodeImages:
    result = control_pb2.NodeImages(node_name=node.description.hostname)
    async with leader.tunnels.open(node.id, ask) as tunnel:
        while (frame := await tunnel.read(timeout_s)) is not None:
            result.images.extend(frame.image_report.images)
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
