"""The controller's calls about images of nodes, and of the fleet's registry. SHELL."""

from collections.abc import Iterable, Iterator

from cli.client import IMAGES_TIMEOUT_S, Client
from cli.parts import whole
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import images_pb2
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.images.views import (
    InspectedImage,
    NodeImageIds,
    NodeImageProgress,
    NodeImagesRemoved,
    PruneImages,
    PullImage,
    RemoveImage,
)
from pyswarm_core.registry.usage import RegistryTag, RegistryUsage

COLLECT_TIMEOUT_S = 900.0
"""Time limit of a collection of garbage, which waits for those who push."""


def pull(client: Client, asked: PullImage) -> Iterator[NodeImageProgress]:
    """Pull an image on nodes; yields the progress of each."""
    request = to_proto(asked, pb.PullImageRequest())
    return client._stream(NodeImageProgress, client._stub.PullImage, request)


def inspect(client: Client, ref: str) -> InspectedImage:
    """The image of that name, digest or id. Raises NotFound if no node has it."""
    request = images_pb2.ImageRef(ref=ref)
    reply = client._ask(client._stub.InspectImage, request, IMAGES_TIMEOUT_S)
    return from_proto(InspectedImage, reply)


def remove(client: Client, asked: RemoveImage) -> list[NodeImagesRemoved]:
    """Remove an image from every node; returns what each removed, or its error. Raises Conflict if
    a service needs it.
    """
    request = to_proto(asked, images_pb2.RemoveImageRequest())
    reply = client._ask(client._stub.RemoveImage, request, IMAGES_TIMEOUT_S)
    return [from_proto(NodeImagesRemoved, node) for node in reply.nodes]


def prune(client: Client, nodes: Iterable[NodeImageIds]) -> list[NodeImagesRemoved]:
    """Remove these images unless they are needed; what each node removed, in the order of their
    names.
    """
    request = to_proto(PruneImages(tuple(nodes)), images_pb2.PruneImagesRequest())
    found = client._stream(NodeImagesRemoved, client._stub.PruneImages, request)
    return sorted(found, key=lambda node: node.node_name)


def registry_tags(client: Client) -> list[RegistryTag]:
    """The tags of the fleet's registry; a fleet without one has none."""
    listing = whole(client._stub.ListRegistry, images_pb2.ListRegistryReply)
    reply = client._ask(listing, images_pb2.ListRegistryRequest())
    return [from_proto(RegistryTag, tag) for tag in reply.tags]


def registry_usage(client: Client, *, by_repository: bool = False) -> RegistryUsage:
    """What the fleet's registry uses; without an address the fleet has none."""
    request = images_pb2.GetRegistryUsageRequest(by_repository=by_repository)
    return from_proto(RegistryUsage, client._ask(client._stub.GetRegistryUsage, request))


def collect_registry(client: Client) -> int:
    """Remove what no tag and no service names from the fleet's registry; returns the bytes that are
    free then. Raises Conflict while users push.
    """
    request = images_pb2.CollectRegistryRequest()
    reply = client._ask(client._stub.CollectRegistry, request, COLLECT_TIMEOUT_S)
    return int(reply.freed_bytes)
