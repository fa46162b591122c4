"""Removes images of nodes: one by name, or unused ones by their ids. SHELL.

Whether a name is removed is decided here, from what the nodes list and what the services need; an
agent still refuses an image that a task on its host has. Unused images are named by the caller,
after it has shown them; the node's agent decides whether each is needed.
"""

from controller.api.images.choosing import deletion, meant, require_removable, wanted
from controller.api.images.nodes import ImagesOfNode, everywhere, on_each
from controller.api.images.users import image_users
from controller.api.queries.lookup import find
from controller.api.streams import Send
from controller.leader.exchanges import IMAGE_DELETE, ImageDelete
from controller.leader.leadership import Leader
from pyswarm_core.errors import NotFound, PyswarmError, invalid
from pyswarm_core.images.views import (
    ImageDeleted,
    ImageDeletion,
    NodeImagesRemoved,
    PruneImages,
    RemoveImage,
)
from pyswarm_core.kinds import NODE
from pyswarm_core.limits import IMAGES_PER_NODE_MAX
from pyswarm_core.objects import Node

DELETE_TIMEOUT_S = 300.0
"""Of one image, or of all loose layers. A removal waits while a pull unpacks a layer."""


async def remove_image(leader: Leader, request: RemoveImage) -> list[NodeImagesRemoved]:
    """Remove an image on every ready node; what each removed, for nodes that had it.

    Raises InvalidArgument for the reference, NotFound if no node has it, Conflict if a service
    needs it.
    """
    want = wanted(request.ref, request.digest)
    users = await leader.watches.runner.run(image_users(leader.state))
    found = await everywhere(leader)
    try:
        ids = meant((image for _, node in found for image in node.images), want)
    except NotFound:
        require_removable((), want, users, force=request.force)
        raise
    chosen = [[one for one in node.images if one.id in ids] for _, node in found]
    images = [image for some in chosen for image in some]
    require_removable(images, want, users, force=request.force)
    plans = {
        node.id: tuple(gone for image in some if (gone := deletion(image, want)) is not None)
        for (node, _), some in zip(found, chosen, strict=True)
    }

    async def on(told: tuple[Node, ImagesOfNode]) -> NodeImagesRemoved:
        node, listed = told
        if listed.error:
            return NodeImagesRemoved(listed.node_name, error=listed.error)
        return await _delete(
            leader, node, ImageDelete(plans[node.id], parents=not request.no_prune)
        )

    removed = await on_each(found, on)
    return [one for one in removed if one.images or one.error]


async def prune_images(leader: Leader, request: PruneImages, send: Send[NodeImagesRemoved]) -> None:
    """Send what each node removed of what is named, or its error, as they answer.

    Raises InvalidArgument, NotFound for a node.
    """
    plans: dict[str, tuple[Node, ImageDelete]] = {}
    for one in request.nodes:
        if len(one.ids) > IMAGES_PER_NODE_MAX:
            most = f"expected at most {IMAGES_PER_NODE_MAX} images of a node"
            raise invalid("ids", len(one.ids), most, "count")
        node = find(leader.state, NODE, one.node)
        images = tuple(ImageDeletion(image_id) for image_id in dict.fromkeys(one.ids))
        plans[node.id] = node, ImageDelete(images, unneeded=True, loose=one.loose)

    async def on(node: Node) -> None:
        await send(await _delete(leader, node, plans[node.id][1]))

    await on_each([node for node, _ in plans.values()], on)


async def _delete(leader: Leader, node: Node, asked: ImageDelete) -> NodeImagesRemoved:
    name, done, failure = node.description.hostname, list[ImageDeleted](), ""
    most = len(asked.images) + asked.loose
    if not most:
        return NodeImagesRemoved(name)
    try:
        async with leader.tunnels.open(node.id, IMAGE_DELETE, asked) as tunnel:
            while (answer := await tunnel.read(DELETE_TIMEOUT_S)) is not None:
                if len(done) == most:
                    break  # an agent is not trusted
                done.append(answer)
    except PyswarmError as error:
        failure = str(error)
    return NodeImagesRemoved(name, tuple(done), failure)
