"""What an image of the nodes is made of. SHELL."""

from controller.api.images.choosing import meant, newest, users_of, wanted
from controller.api.images.nodes import LIST_TIMEOUT_S, everywhere
from controller.api.images.users import Shows, everything, image_users
from controller.leader.exchanges import IMAGE_DETAILS, ImageRef
from controller.leader.leadership import Leader
from pyswarm_core.errors import NotFound, PyswarmError, Unavailable, quoted
from pyswarm_core.ids import NodeId
from pyswarm_core.images.views import Image, ImageDetails, InspectedImage
from pyswarm_core.objects import Node


async def holders(
    leader: Leader, ref: str, node: str = ""
) -> tuple[Image, list[tuple[Node, Image]]]:
    """The image of that name, digest or id, and the nodes that have it; `node`: on that one alone.

    Raises InvalidArgument, NotFound if no node has it; if several images have the name, the one
    that most nodes have is meant.
    """
    want = wanted(ref)
    found = await everywhere(leader)
    if node:
        found = [one for one in found if node in (one[0].id, one[0].description.hostname)]
        if not found:
            raise NotFound(f"No such node: {node}")
    images = [image for _, listed in found for image in listed.images]
    try:
        chosen = newest(images, meant(images, want))
    except NotFound as error:
        failed = [listed.node_name for _, listed in found if listed.error]
        if failed:
            raise NotFound(f"{error}; {', '.join(failed)} did not answer") from None
        raise
    same = [
        (where, image) for where, listed in found for image in listed.images if image.id == chosen
    ]
    return same[0][1], same


async def inspect_image(leader: Leader, ref: str, shows: Shows = everything) -> InspectedImage:
    """The image of that name, digest or id; if `shows` is not everything, one that these services
    need. Raises what `holders` raises, and Unavailable.
    """
    image, same = await holders(leader, ref)
    users = await leader.watches.runner.run(image_users(leader.state, shows))
    if shows is not everything and not any(users_of(one, users) for _, one in same):
        raise NotFound(f"No such image: {quoted(ref)}")
    details = await _details(leader, [node.id for node, _ in same], image.id)
    services = {user.title: None for _, one in same for user in users_of(one, users)}
    return InspectedImage(
        id=image.id,
        digest=image.digest,
        names=tuple(sorted({name for _, one in same for name in one.names})),
        size_bytes=image.size_bytes,
        details=details,
        nodes=tuple(sorted(node.description.hostname for node, _ in same)),
        services=tuple(services),
    )


async def _details(leader: Leader, nodes: list[NodeId], image_id: str) -> ImageDetails:
    """From the first node that answers."""
    failure: PyswarmError = Unavailable("no node has it any more")
    for node_id in nodes:
        try:
            async with leader.tunnels.open(node_id, IMAGE_DETAILS, ImageRef(image_id)) as tunnel:
                answer = await tunnel.read(LIST_TIMEOUT_S)
        except PyswarmError as error:
            failure = error
            continue
        if answer is not None:
            return answer
    raise failure
