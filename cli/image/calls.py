"""The controller's calls about images of nodes, and of the fleet's registry. SHELL."""

from collections.abc import Callable, Iterable, Iterator

from cli.calls.connection import CALL_TIMEOUT_S, IMAGES_TIMEOUT_S, Connection
from cli.calls.parts import node_images, whole
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import images_pb2
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.images.views import (
    InspectedImage,
    NodeImageIds,
    NodeImageProgress,
    NodeImages,
    NodeImagesRemoved,
    PruneImages,
    PullImage,
    RemoveImage,
)
from pyswarm_core.registry.usage import RegistryTag, RegistryUsage

COLLECT_TIMEOUT_S = 900.0
"""Time limit of a collection of garbage, which waits for those who push."""


def images(
    connection: Connection, filters: Iterable[str] = (), *, every: bool = False
) -> list[NodeImages]:
    """The images of each node; `every`: those of builds' steps too."""
    return images_asked(connection, filters, every=every)()


def images_asked(
    connection: Connection, filters: Iterable[str] = (), *, every: bool = False
) -> Callable[[], list[NodeImages]]:
    """As `images`, with the request sent now: what is returned waits for the answer."""
    request = pb.ListRequest(filters=filters, all=every)
    listing = whole(connection._stub.ListImages, pb.ListImagesReply)
    answer = connection._begin(listing, request, IMAGES_TIMEOUT_S)
    return lambda: list(node_images(sorted(answer().nodes, key=lambda node: node.node_name)))


def pull(connection: Connection, asked: PullImage) -> Iterator[NodeImageProgress]:
    """Pull an image on nodes; yields the progress of each."""
    request = to_proto(asked, pb.PullImageRequest())
    return connection._stream(NodeImageProgress, connection._stub.PullImage, request)


def inspect(connection: Connection, ref: str) -> InspectedImage:
    """The image of that name, digest or id. Raises NotFound if no node has it."""
    request = images_pb2.ImageRef(ref=ref)
    reply = connection._ask(connection._stub.InspectImage, request, IMAGES_TIMEOUT_S)
    return from_proto(InspectedImage, reply)


def remove(connection: Connection, asked: RemoveImage) -> list[NodeImagesRemoved]:
    """Remove an image from every node; returns what each removed, or its error. Raises Conflict if
    a service needs it.
    """
    request = to_proto(asked, images_pb2.RemoveImageRequest())
    reply = connection._ask(connection._stub.RemoveImage, request, IMAGES_TIMEOUT_S)
    return [from_proto(NodeImagesRemoved, node) for node in reply.nodes]


def prune(connection: Connection, nodes: Iterable[NodeImageIds]) -> list[NodeImagesRemoved]:
    """Remove these images unless they are needed; what each node removed, in the order of their
    names.
    """
    request = to_proto(PruneImages(tuple(nodes)), images_pb2.PruneImagesRequest())
    found = connection._stream(NodeImagesRemoved, connection._stub.PruneImages, request)
    return sorted(found, key=lambda node: node.node_name)


def registry_tags(connection: Connection) -> list[RegistryTag]:
    """The tags of the fleet's registry; a fleet without one has none."""
    return registry_tags_asked(connection, CALL_TIMEOUT_S)()


def registry_tags_asked(
    connection: Connection, timeout_s: float = IMAGES_TIMEOUT_S
) -> Callable[[], list[RegistryTag]]:
    """As `registry_tags`, with the request sent now: what is returned waits for the answer, which
    may be read after that of the nodes.
    """
    listing = whole(connection._stub.ListRegistry, images_pb2.ListRegistryReply)
    request = images_pb2.ListRegistryRequest()
    answer = connection._begin(listing, request, timeout_s)
    return lambda: [from_proto(RegistryTag, tag) for tag in answer().tags]


def registry_usage(connection: Connection, *, by_repository: bool = False) -> RegistryUsage:
    """What the fleet's registry uses; without an address the fleet has none."""
    request = images_pb2.GetRegistryUsageRequest(by_repository=by_repository)
    return from_proto(RegistryUsage, connection._ask(connection._stub.GetRegistryUsage, request))


def collect_registry(connection: Connection) -> int:
    """Remove what no tag and no service names from the fleet's registry; returns the bytes that are
    free then. Raises Conflict while users push.
    """
    request = images_pb2.CollectRegistryRequest()
    reply = connection._ask(connection._stub.CollectRegistry, request, COLLECT_TIMEOUT_S)
    return int(reply.freed_bytes)
