"""The matrix of docs/security.md, and all methods that a controller serves."""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from google.protobuf import message_factory
from grpc._cython import cygrpc  # type: ignore[attr-defined]
from grpc_health.v1 import health_pb2

from controller.grpc.streams.calls import OPENINGS
from pyswarm_core.aio.streams.framed import ENDED, send
from pyswarm_core.api.v1 import control_pb2, dispatcher_pb2
from tests.fixtures.source import ROOT

COLUMNS = ("guest", "agent", "controller", "viewer", "operator", "admin, root", "of a stack")
_ROW = re.compile(r"^\| `([\w.]+)`(?: of a (\w+))? \|(.*)\|$", re.MULTILINE)
_PREFIX = {"Control": "pyswarm.v1", "Dispatcher": "pyswarm.v1", "Health": "grpc.health.v1"}
FILES = (control_pb2.DESCRIPTOR, dispatcher_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR)
NOT_SERVED = ("/grpc.health.v1.Health/List",)
"""grpc's health servicer has no such method."""


class Row(NamedTuple):
    """A row of the document."""

    method: str
    kind: str
    """The kind of objects in the request, or what it names; empty: a service."""
    cells: dict[str, str]


def rows() -> list[Row]:
    """The rows of the document."""
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    section = text.partition("## What each role may call")[2].partition("\n## ")[0]
    found = []
    for name, kind, cells in _ROW.findall(section):
        service, _, method = name.partition(".")
        values = [cell.strip() for cell in cells.split("|")]
        row = dict(zip(COLUMNS, values, strict=True))
        found.append(Row(f"/{_PREFIX[service]}.{service}/{method}", kind, row))
    return found


def methods() -> Iterator[tuple[str, Any]]:
    """Every method of the API with its descriptor."""
    for file in FILES:
        for service in file.services_by_name.values():
            for method in service.methods:
                name = f"/{service.full_name}/{method.name}"
                if name not in NOT_SERVED:
                    yield name, method


def call_of(channel: Any, name: str, method: Any) -> Any:
    """What calls the method on the channel."""
    kinds = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }
    reply = message_factory.GetMessageClass(method.output_type)
    make = kinds[method.client_streaming, method.server_streaming]
    return make(
        name,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=reply.FromString,
    )


def request_of(method: Any, kind: str) -> Any:
    """An empty request, with the kind of objects or the object that the row names."""
    request: Any = message_factory.GetMessageClass(method.input_type)()
    if method.name in OPENINGS:
        request = getattr(request, OPENINGS[method.name])
    if "kind" in request.DESCRIPTOR.fields_by_name:
        request.kind = kind or "service"
    elif kind:
        request.ref = kind
    return request


async def send_all(call: Any, *messages: bytes) -> None:
    """Send the messages and end the requests, unless the call ends before."""
    with suppress(*ENDED, cygrpc.InternalError):
        await call.wait_for_connection()
        for message in messages:
            await send(call, message)
        await call.done_writing()
