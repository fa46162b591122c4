"""The identity of this node: id, token and known controllers, in one file of the state directory.
SHELL.
"""

import asyncio
from pathlib import Path

import grpc
import msgspec

from pyswarm_core.aio.channel import CHANNEL_OPTIONS
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.aio.status import error_of
from pyswarm_core.api.v1 import dispatcher_pb2, dispatcher_pb2_grpc, objects_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.errors import (
    AlreadyExists,
    InvalidArgument,
    PyswarmError,
    Unavailable,
    reason_of,
)
from pyswarm_core.ids import NodeId
from pyswarm_core.limits import CONTROLLERS_MAX
from pyswarm_core.objects import NodeDescription

_log = EventLog("agent.session.identity")

JOIN_TIMEOUT_S = 10.0
JOIN_RETRY_S = 0.3
FORMER_NODE_S = 25.0
"""A host that joins again waits this long for its former node, which has its name, to be down."""


class _Saved(msgspec.Struct, frozen=True):
    node_id: NodeId
    cluster_id: str
    token: str
    controllers: tuple[str, ...]


class Identity:
    """The identity of a node that has joined."""

    def __init__(self, path: Path, saved: _Saved) -> None:
        self._path = path
        self._saved = saved

    @property
    def node_id(self) -> NodeId:
        return self._saved.node_id

    @property
    def cluster_id(self) -> str:
        return self._saved.cluster_id

    @property
    def token(self) -> str:
        return self._saved.token

    @property
    def controllers(self) -> tuple[str, ...]:
        """The addresses of known controllers, running ones first; never empty."""
        return self._saved.controllers

    def learn(self, controllers: tuple[str, ...]) -> None:
        """Record the running controllers; those known before are kept after them."""
        known = tuple(dict.fromkeys((*controllers, *self._saved.controllers)))[:CONTROLLERS_MAX]
        if known != self._saved.controllers:
            self._saved = msgspec.structs.replace(self._saved, controllers=known)
            try:
                _write(self._path, self._saved)
            except OSError as error:
                # A restarted agent uses the addresses that were saved before.
                _log.warning("node.save_failed", error=error)

    @classmethod
    def load(cls, path: Path) -> "Identity | None":
        """The identity of a node that has joined, or None. Raises InvalidArgument if the file is
        damaged.
        """
        if not path.exists():
            return None
        try:
            return cls(path, msgspec.json.decode(path.read_bytes(), type=_Saved))
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            text = reason_of(error) if isinstance(error, OSError) else str(error)
            raise InvalidArgument(
                f"cannot read this node's identity {path} ({text}): restore the file, or remove it"
                " and join again"
            ) from error


class Joining(msgspec.Struct, frozen=True):
    """The arguments of a request to join."""

    token: str
    controllers: tuple[str, ...]
    description: NodeDescription
    addr: str
    availability: str = "active"


async def join(path: Path, joining: Joining) -> Identity:
    """Join the fleet; tries the controllers in turn until one answers.

    Raises PyswarmError if a controller refuses (wrong token, another node has the name).
    """
    attempt = 0
    give_up_at = asyncio.get_running_loop().time() + FORMER_NODE_S
    while True:
        address = joining.controllers[attempt % len(joining.controllers)]
        attempt += 1
        try:
            reply = await _request(address, joining)
        except (Unavailable, AlreadyExists) as error:
            is_over = asyncio.get_running_loop().time() > give_up_at
            if isinstance(error, AlreadyExists) and is_over:
                raise
            _log.warning("node.join_failed", controller=address, error=error)
            await asyncio.sleep(JOIN_RETRY_S)
            continue
        saved = _Saved(
            NodeId(reply.node_id),
            reply.cluster_id,
            joining.token,
            tuple(dict.fromkeys((*reply.controllers, *joining.controllers)))[:CONTROLLERS_MAX],
        )
        _write(path, saved)
        _log.info("node.joined", node=saved.node_id, cluster=saved.cluster_id)
        return Identity(path, saved)


async def _request(address: str, joining: Joining) -> dispatcher_pb2.JoinReply:
    request = dispatcher_pb2.JoinRequest(
        token=joining.token,
        description=to_proto(joining.description, objects_pb2.NodeDescription()),
        addr=joining.addr,
        availability=joining.availability,
    )
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        stub = dispatcher_pb2_grpc.DispatcherStub(channel)
        try:
            return await stub.Join(request, timeout=JOIN_TIMEOUT_S)
        except grpc.RpcError as error:
            refused: PyswarmError = error_of(error)
            raise refused from error


def _write(path: Path, saved: _Saved) -> None:
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_bytes(msgspec.json.encode(saved))
    fresh.replace(path)
