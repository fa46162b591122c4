"""The controller's calls about secrets and configs. SHELL."""

from typing import Any, NamedTuple

from cli.client import Client
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.codec import to_proto
from pyswarm_core.kinds import SECRET, Kind
from pyswarm_core.payloads.payload import Payload, PayloadSpec


class Updated(NamedTuple):
    """A new version, and the services that are updated to it."""

    payload: Payload
    services: tuple[str, ...]


def create(client: Client, kind: Kind[Any, Any], spec: PayloadSpec, data: bytes) -> Payload:
    """Create a secret or config. Raises AlreadyExists."""
    request = pb.CreatePayloadRequest(data=data)
    to_proto(spec, request.spec)
    stub = client._stub
    method = stub.CreateSecret if kind is SECRET else stub.CreateConfig
    made: Payload = kind.decode(client._ask(method, request).value)
    return made


def update(
    client: Client,
    kind: Kind[Any, Any],
    ref: str,
    data: bytes,
    *,
    keep_versions: int | None,
    reload: str,
) -> Updated:
    """Create the next version. Raises NotFound."""
    request = pb.UpdatePayloadRequest(
        ref=ref, data=data, keep_versions=keep_versions, reload=reload
    )
    stub = client._stub
    method = stub.UpdateSecret if kind is SECRET else stub.UpdateConfig
    reply = client._ask(method, request)
    return Updated(kind.decode(reply.object.value), tuple(reply.services))
