"""Archives of images of nodes, and builds on nodes, as byte streams of users. SHELL."""

from collections.abc import Callable

from msgspec.structs import replace

from controller.api.images.choosing import tags
from controller.api.images.details import holders
from controller.api.queries.lookup import find
from controller.api.relaying.relay import Caller, copy
from controller.leader.exchanges import BUILD_IMAGE, SAVE_IMAGE
from controller.leader.leadership import Leader
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import invalid
from pyswarm_core.kinds import NODE
from pyswarm_core.objects import Node
from pyswarm_core.streams.requests import BuildImageRequest, SaveImageRequest
from pyswarm_core.validation import require
from pyswarm_core.validation.streams import stream_problems

NAMES_MAX = 64


async def relay_image(
    leader: Leader, request: SaveImageRequest, caller: Caller, noted: Callable[[str], None]
) -> None:
    """Pass on the archive of an image from a node that has it. Without names it gets the tags of
    the image.

    Raises InvalidArgument, NotFound if no node has it, and the agent's error.
    """
    if len(request.names) > NAMES_MAX:
        raise invalid("names", len(request.names), f"expected at most {NAMES_MAX}", "count")
    names = [str(parse_reference(name)) for name in request.names]
    image, same = await holders(leader, request.ref, request.node)
    asked = replace(request, ref=image.id, node="", names=tuple(names or tags(image)))
    noted(request.ref)
    async with leader.tunnels.open(same[0][0].id, SAVE_IMAGE, asked) as tunnel:
        await copy(caller, tunnel)


async def relay_build(
    leader: Leader, request: BuildImageRequest, caller: Caller, begun: Callable[[Node], None]
) -> None:
    """Have the node build an image: pass on the context, and what the build prints.

    Raises InvalidArgument, NotFound, and the agent's error.
    """
    require(list(stream_problems(request)))
    node = find(leader.state, NODE, request.ref)
    begun(node)
    async with leader.tunnels.open(node.id, BUILD_IMAGE, replace(request, ref="")) as tunnel:
        await copy(caller, tunnel)
