"""A controller that answers from a script: real gRPC, no fleet behind it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.message import Message

from pyswarm_core.aio.status import code_of
from pyswarm_core.api.v1.control_pb2_grpc import ControlServicer, add_ControlServicer_to_server
from pyswarm_core.errors import PyswarmError

Answer = Any
"""A message, an error to refuse with, a list of them for a stream, or a function of the request."""


class Script:
    """What is answered to each RPC, and what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[tuple[str, Message]] = []
        self.host = ""

    def on(self, rpc: str, *answers: Answer) -> "Script":
        """Answer calls of `rpc` in turn with these; the last one serves all further calls."""
        self.answers[rpc] = list(answers)
        return self

    def requests(self, rpc: str) -> list[Any]:
        """The requests that `rpc` got."""
        return [request for name, request in self.asked if name == rpc]

    def next_answer(self, rpc: str, request: Message) -> Answer:
        """Take the call down and say what it gets."""
        self.asked.append((rpc, request))
        waiting = self.answers.get(rpc)
        if not waiting:
            return None
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return answer(request) if callable(answer) else answer


def _unary(script: Script, rpc: str) -> Callable[..., Message]:
    def call(_: object, request: Message, context: grpc.ServicerContext) -> Message:
        answer = script.next_answer(rpc, request)
        if isinstance(answer, PyswarmError):
            context.abort(code_of(answer), str(answer))
        if answer is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{rpc} is not scripted")
        assert isinstance(answer, Message)
        return answer

    return call


def _stream(script: Script, rpc: str) -> Callable[..., Iterator[Message]]:
    def call(_: object, request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        answers = script.next_answer(rpc, request)
        whole = isinstance(answers, Message | PyswarmError)  # a list in one part
        for answer in [answers] if whole else answers or []:
            if isinstance(answer, PyswarmError):
                context.abort(code_of(answer), str(answer))
            yield answer

    return call


_LISTS = (
    "ListServices",
    "ListTasks",
    "ListContainers",
    "ListNodes",
    "ListObjects",
    "GetNetwork",
    "ListImages",
    "ListRegistry",
)
_STREAMS = (
    "WatchService",
    "Events",
    "ListAudit",
    "Logs",
    "Stats",
    "PullImage",
    "PruneImages",
    "Changes",
    "WaitContainer",
    *_LISTS,
)


def add_script(script: Script, server: grpc.Server) -> None:
    """Answer the server's calls from the script."""
    rpcs = [name for name in vars(ControlServicer) if name[0].isupper()]
    methods = {
        name: _stream(script, name) if name in _STREAMS else _unary(script, name) for name in rpcs
    }
    servicer = type("Scripted", (ControlServicer,), methods)()
    add_ControlServicer_to_server(servicer, server)


@contextmanager
def serve(script: Script, address: str) -> Iterator[Script]:
    """Serve the script on `address` (unix:///PATH)."""
    server = grpc.server(ThreadPoolExecutor(max_workers=8))
    add_script(script, server)
    server.add_insecure_port(address)
    server.start()
    script.host = address
    try:
        yield script
    finally:
        server.stop(grace=None).wait()
