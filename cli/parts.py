"""Answers that a controller sends in parts. SHELL."""

from typing import Generic, TypeVar

import grpc
from google.protobuf.message import Message

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
