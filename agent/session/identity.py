"""The identity of this node: id, key, certificate and known controllers, in one file of the state
directory. SHELL.

The file is replaced as a whole, so that a key and its certificate always belong together.
"""

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path

import grpc
import msgspec

from agent.session.keys import Request, new_request
from pyswarm_core.aio import thisnode
from pyswarm_core.aio.credentials import ClientCredentials, channel, guest
from pyswarm_core.aio.handshake import fetch_chain
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.aio.status import error_of
from pyswarm_core.api.v1 import dispatcher_pb2, dispatcher_pb2_grpc, objects_pb2
from pyswarm_core.clock import Instant
from pyswarm_core.codec import to_proto
from pyswarm_core.errors import (
    AlreadyExists,
    InvalidArgument,
    PyswarmError,
    Unavailable,
    reason_of,
)
from pyswarm_core.identity.tokens import parse_join_token
from pyswarm_core.identity.trust import ders_of
from pyswarm_core.ids import NodeId
from pyswarm_core.limits import CONTROLLERS_MAX
from pyswarm_core.objects import NodeDescription

_log = EventLog("agent.session.identity")

JOIN_TIMEOUT_S = 10.0
JOIN_RETRY_S = 0.3
FORMER_NODE_S = 25.0
"""A host that joins again waits this long for its former node, which has its name, to be down."""


class Certificate(msgspec.Struct, frozen=True):
    """A certificate with its key; times are instants of the controllers' clock."""

    key: str
    chain: str
    """The certificate, then those that lead to an older root."""
    roots: str
    """The root certificates of controllers."""
    issuer: str
    """The root that issued it."""
    issued_at: Instant
    expires_at: Instant
    received_at: Instant
    """By this host's clock."""

    @property
    def credentials(self) -> ClientCredentials:
        """What the agent shows to controllers, and requires of them."""
        return ClientCredentials(self.roots.encode(), self.chain.encode(), self.key.encode())

    @property
    def issuer_der(self) -> bytes:
        """The root that issued it, in DER."""
        return ders_of(self.issuer)[0]

    def __repr__(self) -> str:
        return "Certificate(...)"


class _Saved(msgspec.Struct, frozen=True):
    node_id: NodeId
    cluster_id: str
    controllers: tuple[str, ...]
    certificate: Certificate
    pending: Request | None = None
    """A request for the next certificate that may have been granted without an answer."""


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
    def certificate(self) -> Certificate:
        return self._saved.certificate

    @property
    def controllers(self) -> tuple[str, ...]:
        """The addresses of known controllers, running ones first; never empty."""
        return self._saved.controllers

    def announce(self, hostname: str) -> None:
        """Let the users of this host read which node it is."""
        thisnode.write(thisnode.ThisNode(self.node_id, self.cluster_id, hostname))

    def learn(self, controllers: tuple[str, ...]) -> None:
        """Record the running controllers; those known before are kept after them."""
        known = tuple(dict.fromkeys((*controllers, *self._saved.controllers)))[:CONTROLLERS_MAX]
        self._save(msgspec.structs.replace(self._saved, controllers=known))

    def trust(self, roots: str) -> None:
        """Record the roots of controllers' certificates."""
        certificate = msgspec.structs.replace(self.certificate, roots=roots)
        self._save(msgspec.structs.replace(self._saved, certificate=certificate))

    async def request(self) -> Request:
        """The request for the next certificate, recorded with its key before it is sent: if its
        answer is lost, the node's object names this key. Raises Unavailable.
        """
        if self._saved.pending is None:
            fresh = await new_request()
            self._save(msgspec.structs.replace(self._saved, pending=fresh))
        assert self._saved.pending is not None
        return self._saved.pending

    def renew(self, certificate: Certificate) -> None:
        """Record a new certificate with its key."""
        self._save(msgspec.structs.replace(self._saved, certificate=certificate, pending=None))

    def reload(self) -> None:
        """Take over what another process has written (`swarm rejoin`)."""
        with suppress(InvalidArgument):
            if (found := Identity.load(self._path)) is not None:
                self._saved = found._saved

    def _save(self, saved: _Saved) -> None:
        if saved == self._saved:
            return
        self._saved = saved
        try:
            _write(self._path, saved)
        except OSError as error:
            # A restarted agent uses what was saved before.
            _log.warning("node.save_failed", error=error)

    @classmethod
    def load(cls, path: Path) -> "Identity | None":
        """The identity of a node that has joined, or None. Raises InvalidArgument if the file is
        damaged, or of a version without certificates.
        """
        if not path.exists():
            return None
        try:
            return cls(path, msgspec.json.decode(path.read_bytes(), type=_Saved))
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            text = reason_of(error) if isinstance(error, OSError) else str(error)
            raise InvalidArgument(
                f"cannot read this node's identity {path} ({text}): restore the file, or run"
                " `pyswarm swarm rejoin` if it is of a version without certificates"
            ) from error


class Former(msgspec.Struct, frozen=True):
    """What a host knows of the node that it was, perhaps by a version without certificates."""

    node_id: NodeId
    cluster_id: str
    controllers: tuple[str, ...] = ()
    certificate: Certificate | None = None


def former(path: Path) -> Former:
    """The node that this host was. Raises InvalidArgument."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Former)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        text = reason_of(error) if isinstance(error, OSError) else str(error)
        raise InvalidArgument(
            f"cannot read which node this host was ({text}): run `pyswarm swarm join` instead,"
            " which makes it a new node"
        ) from error


def save(path: Path, former: Former, certificate: Certificate, address: str) -> None:
    """Write the identity of a node with a new certificate, from the controller at `address`."""
    known = tuple(dict.fromkeys((address, *former.controllers)))[:CONTROLLERS_MAX]
    _write(path, _Saved(former.node_id, former.cluster_id, known, certificate))


class Joining(msgspec.Struct, frozen=True):
    """The arguments of a request to join."""

    token: str
    controllers: tuple[str, ...]
    description: NodeDescription
    addr: str
    availability: str = "active"


async def join(path: Path, joining: Joining) -> Identity:
    """Join the fleet; tries the controllers in turn until one answers.

    Raises PyswarmError if a controller refuses (wrong token, another node has the name), or has
    another CA than the token names.
    """
    digest = parse_join_token(joining.token).digest
    request = await new_request()
    attempt = 0
    give_up_at = asyncio.get_running_loop().time() + FORMER_NODE_S
    while True:
        address = joining.controllers[attempt % len(joining.controllers)]
        attempt += 1
        try:
            reply = await _request(address, digest, joining, request)
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
            tuple(dict.fromkeys((*reply.controllers, *joining.controllers)))[:CONTROLLERS_MAX],
            certificate_of(reply.certificate, request),
        )
        _write(path, saved)
        _log.info("node.joined", node=saved.node_id, cluster=saved.cluster_id)
        return Identity(path, saved)


def certificate_of(message: dispatcher_pb2.Certificate, request: Request) -> Certificate:
    """The certificate that a controller issued for this request, just received."""
    end = "-----END CERTIFICATE-----\n"
    roots = message.roots.decode()
    return Certificate(
        key=request.key.decode(),
        chain=message.chain.decode(),
        roots=roots,
        issuer=roots.partition(end)[0] + end,
        issued_at=Instant(message.issued_at),
        expires_at=Instant(message.expires_at),
        received_at=Instant(time.time_ns()),
    )


async def _request(
    address: str, digest: str, joining: Joining, request: Request
) -> dispatcher_pb2.JoinReply:
    trust = await asyncio.to_thread(fetch_chain, address, digest)
    message = dispatcher_pb2.JoinRequest(
        token=joining.token,
        description=to_proto(joining.description, objects_pb2.NodeDescription()),
        addr=joining.addr,
        availability=joining.availability,
        csr=request.csr,
        clock=time.time_ns(),
    )
    async with channel(address, guest(trust), aio=True) as connection:
        stub = dispatcher_pb2_grpc.DispatcherStub(connection)
        try:
            return await stub.Join(message, timeout=JOIN_TIMEOUT_S)
        except grpc.RpcError as error:
            refused: PyswarmError = error_of(error)
            raise refused from error


def _write(path: Path, saved: _Saved) -> None:
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    with fresh.open("wb") as file:
        file.write(msgspec.json.encode(saved))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
