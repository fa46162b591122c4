"""Answers that a controller sends in parts. SHELL."""

from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import Message

from pyswarm_core.codec import from_proto
from pyswarm_core.images.views import Image, ImageUse, NodeImages

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)


class whole(Generic[Q, A]):  # noqa: N801  # called as a function
    """A call that streams its answer in parts, as a call that returns the whole answer."""

    def __init__(self, method: "grpc.UnaryStreamMultiCallable[Q, A]", reply: type[A]) -> None:
        self._method, self._reply = method, reply

    def with_call(self, request: Q, *, timeout: float) -> tuple[A, grpc.Call]:
        whole, parts = self._reply(), self._method(request, timeout=timeout)
        for part in parts:
            whole.MergeFrom(part)
        return whole, parts


def node_images(nodes: Iterable[Any]) -> Iterator[NodeImages]:
    """The images of nodes, of messages of that name. Nodes have mostly the same images, so one that
    is alike on many is decoded once.
    """
    known: dict[bytes, Image] = {}
    for node in nodes:
        images = []
        for message in node.images:
            encoded = message.SerializeToString()
            if (image := known.get(encoded)) is None:
                image = known[encoded] = from_proto(Image, message)
            images.append(image)
        use = from_proto(ImageUse, node.use)
        yield NodeImages(node.node_name, tuple(images), node.error, use)
