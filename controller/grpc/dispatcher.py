"""The controller's API for agents: joins, sessions, tunnels. SHELL.

A session is two loops over one stream. Reading processes the agent's messages at once (a heartbeat
costs one write to a dict); writing sends what `NodeSession.take` returns whenever the stream is
free. The end of a stream changes nothing: only silence makes a node disconnected or down.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from msgspec.structs import replace

from controller.api.changes.certificates import (
    Proof,
    Rejoin,
    is_proven,
    proven_node,
    rejoining,
    renewed,
    require_newest_key,
)
from controller.api.changes.joining import JoinRequest, bounded, greet, join, role_of
from controller.api.changes.moving.measured import measured
from controller.api.changes.nodes import drain_node
from controller.api.changes.reported import Reports, clock_fault, faults
from controller.api.changes.volumes import copies_of, copies_removed
from controller.brain.allocator.encryption import renewal
from controller.grpc.admission import JOINS, RENEWALS, STRANGERS, Gate, Receiving, counted_as
from controller.grpc.auditing import JOIN, LEAVE, REJOIN
from controller.grpc.callers import current_caller
from controller.grpc.calls import Context, read, received
from controller.grpc.peers import (
    address_of,
    agent_of,
    calling_node,
    certificate_of,
    require_fleet,
)
from controller.grpc.servicers.payloads import PayloadsOfNodes
from controller.grpc.tunnels import GrpcTunnel
from controller.identity.ca import Subject, Unit, key_digest, public_key_of
from controller.identity.caller import CONTROLLER
from controller.identity.cluster import issuer_of, trusted_roots
from controller.leader.loop import Loop
from controller.leader.sessions import Message, NodeSession
from controller.leader.slicing import RateLimiter
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.clock import Clock, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Exhausted, InvalidArgument, Unavailable, invalid
from pyswarm_core.identity.trust import AGENT_NAME
from pyswarm_core.ids import IdSource, NodeId, short
from pyswarm_core.images.disk import ImageDisk, checked
from pyswarm_core.indexes.columns import unpack_statuses
from pyswarm_core.limits import HELLOS_PER_SECOND, PROTOCOL, STATUSES_MAX, STATUSES_PER_MESSAGE
from pyswarm_core.objects import Cluster, Node, NodeDescription, NodeFault, TaskStatus
from pyswarm_core.state import State
from pyswarm_core.volumes.volume import MeasuredVolume, VolumeId

_log = EventLog("controller.dispatcher")

HELLO_TIMEOUT_S = 10.0
WRITE_TIMEOUT_S = 30.0
"""An agent that does not accept a message for this long has to open a new session."""
TUNNEL_HELLO_TIMEOUT_S = 5.0
ELECTION_TIMEOUT_S = 10.0
"""The wait of a session for a leader: an election, and the load of a large state."""
SENDING_AT_ONCE = 32
SENDING_PAUSE_S = 0.016
"""Sessions that send changes at once, and the pause of each place between two: 2,000 sends a
second. One change is sent at once; when all of a large fleet changes, later changes are sent along,
and decisions and the lease keep half of the processor.
"""
TAKING_AT_ONCE = 8
"""Reports of statuses processed in one pass of the event loop; others run between."""
_NOTHING = Message()
OPENING_AT_ONCE = 16
OPENING_PAUSE_S = OPENING_AT_ONCE / HELLOS_PER_SECOND
"""Hosts that join or open a session at once. The sessions of a whole returning fleet wait in a
queue: one takes a millisecond to open, and an open one sends heartbeats.
"""


class Leading(Protocol):
    """Whether this controller leads."""

    @property
    def leader(self) -> str:
        """The leader's address; "" if it is not known."""
        ...

    def current(self) -> Loop:
        """The loop, if this controller leads. Raises Unavailable naming the leader otherwise."""
        ...

    async def settled(self) -> None:
        """Return when this controller leads or knows the leader."""
        ...


class Dispatcher(PayloadsOfNodes):
    """Serves agents while this controller leads; names the leader otherwise.

    `strangers` counts the calls that have not shown yet that they come from an agent of the fleet.
    """

    def __init__(
        self,
        leading: Leading,
        clock: Clock,
        strangers: Gate | None = None,
        receiving: Receiving | None = None,
    ) -> None:
        self._leading = leading
        self._clock = clock
        self._strangers = strangers or Gate(STRANGERS)
        self._receiving = receiving or Receiving()
        self._joins = Gate(JOINS)
        self._renewals = Gate(RENEWALS)
        self._in_line: set[NodeId] = set()
        """Nodes with a session that waits to be opened."""
        self._opening = RateLimiter(OPENING_AT_ONCE, OPENING_PAUSE_S)
        self._renewing = RateLimiter(OPENING_AT_ONCE, OPENING_PAUSE_S)
        """Not `_opening`: sessions do not wait for a fleet that renews, as after a rotation."""
        self._sending = RateLimiter(SENDING_AT_ONCE, SENDING_PAUSE_S)
        self._going_on = RateLimiter(1)
        self._taking = RateLimiter(TAKING_AT_ONCE)

    async def Join(
        self, request: dispatcher_pb2.JoinRequest, context: Context
    ) -> dispatcher_pb2.JoinReply:
        role_of(self._leading.current().state.cluster, request.token)  # others wait in no queue
        key = public_key_of(request.csr)
        async with self._joining(context):
            loop = self._leading.current()
            joining = JoinRequest(
                request.token,
                read(NodeDescription, request.description),
                request.addr,
                request.availability,
                key_digest(key),
                request.clock,
                address_of(context),
            )

            def joined(
                state: State, now: Instant, ids: IdSource
            ) -> tuple[Writes, tuple[Node, Cluster]]:
                writes, node = join(state, joining, now, ids, loop.controllers)
                return writes, (node, state.cluster)

            node, cluster = await loop.submit(joined, current_caller(), JOIN)
        _log.info("node.joined", node=node.id, hostname=joining.description.hostname)
        return dispatcher_pb2.JoinReply(
            node_id=node.id,
            cluster_id=cluster.id,
            controllers=loop.controllers,
            certificate=_certificate(cluster, node, key),
            protocol=PROTOCOL,
        )

    async def RenewCertificate(
        self, request: dispatcher_pb2.RenewCertificateRequest, context: Context
    ) -> dispatcher_pb2.Certificate:
        loop = self._leading.current()
        key = public_key_of(request.csr)
        digest = key_digest(key)
        node_id = self._proven(loop.state, request, context, digest)  # others wait in no queue
        ended_at = loop.state.nodes[node_id].certificate.expires_at
        is_return = bool(request.token) or ended_at <= self._clock.now()
        caller = current_caller() if is_return else CONTROLLER  # a renewal has no audit record

        def renew(state: State, now: Instant, ids: IdSource) -> tuple[Writes, tuple[Node, Cluster]]:
            node_id = self._proven(state, request, context, digest)
            keeps = not request.token or is_proven(state, _rejoin(request))
            writes, node = renewed(state, node_id, digest, now, keeps_former=keeps)
            return writes, (node, state.cluster)

        with self._renewals.passing(counted_as(context)):
            async with self._renewing:
                node, cluster = await loop.submit(renew, caller, REJOIN)
        return _certificate(cluster, node, key)

    async def Leave(
        self, request: dispatcher_pb2.LeaveRequest, context: Context
    ) -> dispatcher_pb2.LeaveReply:
        node_id, loop = agent_of(context), self._leading.current()
        left = await loop.submit(
            lambda state, now, ids: drain_node(state, node_id, now), current_caller(), LEAVE
        )
        return dispatcher_pb2.LeaveReply(tasks=left)

    def _current_state(self) -> State:
        return self._leading.current().state

    def _proven(
        self,
        state: State,
        request: dispatcher_pb2.RenewCertificateRequest,
        context: Context,
        requested: str,
    ) -> NodeId:
        """The node that the caller proves to be, so that it may have this key."""
        now = self._clock.now()
        if request.token:
            role_of(state.cluster, request.token)
            return rejoining(state, _rejoin(request), now)
        if request.former_certificate:
            return proven_node(state, _proof(request), now)
        node = calling_node(state, context)
        if (shown := certificate_of(context)) is not None:
            require_newest_key(node, shown.key_digest, requested)
        return node.id

    async def Session(  # type: ignore[override]  # the stubs know only generators
        self, request_iterator: object, context: Context
    ) -> None:
        with self._strangers.passing(counted_as(context)):
            hello = await _hello(context, self._receiving)
            if (loop := await self._elected()) is None:
                await self._redirect(context)
                return
            require_fleet(certificate_of(context), loop.state.cluster.id)
            node = calling_node(loop.state, context)
        async with self._line(node.id):
            loop = await self._elected()
            session = _open(loop, context, hello) if loop else None
        if loop is None or session is None:
            await self._redirect(context)
            return
        try:
            await self._take_statuses(loop, session, hello.statuses)
            await self._converse(loop, session, context)
        finally:
            loop.sessions.close(session)

    async def _redirect(self, context: Context) -> None:
        redirect = dispatcher_pb2.Redirect(leader=self._leading.leader)
        await context.write(Message(redirect=redirect))

    @asynccontextmanager
    async def _joining(self, context: Context) -> AsyncIterator[None]:
        """Run the block when it is the join's turn. Raises Exhausted if too many wait."""
        with self._joins.passing(counted_as(context)):
            async with self._opening:
                yield

    @asynccontextmanager
    async def _line(self, node_id: NodeId) -> AsyncIterator[None]:
        """Run the block when it is the session's turn to be opened. Raises Exhausted if another
        session of the node waits for that.
        """
        if node_id in self._in_line:
            raise Exhausted(f"a session of node {short(node_id)} waits already, which is the limit")
        self._in_line.add(node_id)
        try:
            async with self._opening:
                yield
        finally:
            self._in_line.discard(node_id)

    async def _elected(self) -> Loop | None:
        """The loop, if this controller leads. While there is no leader, agents wait here for a
        while: a fleet that reconnects repeatedly would delay the election that it waits for.
        """
        try:
            async with asyncio.timeout(ELECTION_TIMEOUT_S):
                await self._leading.settled()
            return self._leading.current()
        except (TimeoutError, Unavailable):
            return None

    async def Tunnel(  # type: ignore[override]  # the stubs know only generators
        self, request_iterator: object, context: Context
    ) -> None:
        with self._strangers.passing(counted_as(context)):
            try:
                place = self._receiving.place(counted_as(context))
                async with asyncio.timeout(TUNNEL_HELLO_TIMEOUT_S), place:
                    frame = received(await context.read(), dispatcher_pb2.TunnelFrame)
            except TimeoutError:
                reason = f"no first frame within {TUNNEL_HELLO_TIMEOUT_S:g} s"
                raise InvalidArgument(reason) from None
            if frame is None:
                return
            tunnel = GrpcTunnel(context)
            node_id = agent_of(context)
            self._leading.current().tunnels.accept(frame.tunnel_id, node_id, tunnel)
        try:
            await tunnel.wait_closed()
        finally:
            tunnel.close()

    async def _converse(self, loop: Loop, session: NodeSession, context: Context) -> None:
        """Serve both halves until one ends. The error of one half ends the other."""
        try:
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(loop, session, context, group))
                writer = group.create_task(self._write(loop, session, context))
                await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
                reader.cancel()
                writer.cancel()
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _read(
        self, loop: Loop, session: NodeSession, context: Context, group: asyncio.TaskGroup
    ) -> None:
        renewing: asyncio.Task[None] | None = None
        try:
            while True:
                message = received(await context.read(), dispatcher_pb2.AgentMessage)
                if message is None or session.closed:
                    return
                await self._take(loop, session, message)
                gone = copies_of(loop.state, session.node_id, message.volumes_removed.ids)
                if gone:
                    group.create_task(_forget_copies(loop, session.node_id, gone))
                worn = message.heartbeat.worn_key
                if worn and (renewing is None or renewing.done()):
                    renewing = group.create_task(_renew(loop, worn))
        finally:
            if renewing is not None:
                renewing.cancel()

    async def _take(
        self, loop: Loop, session: NodeSession, message: dispatcher_pb2.AgentMessage
    ) -> None:
        node_id = session.node_id
        loop.heard(node_id)
        match message.WhichOneof("kind"):
            case "statuses":
                await self._take_statuses(loop, session, message.statuses)
            case "acknowledge":
                applied = message.acknowledge
                digest = applied.digest if applied.HasField("digest") else None
                if loop.acknowledge(session, applied.revision, digest):
                    _log.error("endpoints.differ", node=node_id, revision=applied.revision)
            case "heartbeat":
                self._take_heartbeat(loop, node_id, message.heartbeat)
            case "probe_result":
                probed = message.probe_result
                about = NodeId(probed.node_id)
                loop.node_watch.reported(node_id, about, answered=probed.answered)
            case "measured_volumes":
                used = [read(MeasuredVolume, one) for one in message.measured_volumes.volumes]
                now = self._clock.now()
                loop.observe_volumes(measured(loop.state, node_id, used, now))
            case "found_sources":
                loop.sources.found(node_id, message.found_sources)
            case _:
                pass  # a word of a newer agent

    def _take_heartbeat(
        self, loop: Loop, node_id: NodeId, heartbeat: dispatcher_pb2.Heartbeat
    ) -> None:
        reported = [read(NodeFault, one) for one in heartbeat.faults]
        if skewed := clock_fault(heartbeat.clock, self._clock.now()):
            reported.insert(0, skewed)
        disk = checked(read(ImageDisk, heartbeat.image_disk))
        loop.faults(node_id, faults(loop.state, reported), disk)

    async def _take_statuses(
        self, loop: Loop, session: NodeSession, message: dispatcher_pb2.TaskStatuses
    ) -> None:
        """Process a report, STATUSES_PER_MESSAGE at a time: an agent older than that limit sends
        all at once.
        """
        if not (message.ids or message.states):
            return
        count = len(message.states)
        if count > STATUSES_MAX:
            raise invalid(
                "statuses", count, f"expected at most {STATUSES_MAX} in one message", "count"
            )
        parts = unpack_statuses(message, STATUSES_PER_MESSAGE)
        for _ in range(0, max(1, count), STATUSES_PER_MESSAGE):
            async with self._taking:
                if session.closed:
                    return
                loop.heard(session.node_id)  # its next messages wait meanwhile
                try:
                    statuses = [bounded(status) for status in next(parts)]
                except ValueError as error:
                    raise InvalidArgument(f"statuses cannot be read: {error}") from error
                _intake(loop, session.node_id, statuses)

    async def _write(self, loop: Loop, session: NodeSession, context: Context) -> None:
        await _send(context, loop.sessions.opening(loop.state.cluster, loop.heartbeat_period))
        while True:
            await session.wake.wait()
            if session.closed:
                return
            await _send(context, session.take_notices())
            if not await self._tell(loop, session, context):
                return

    async def _tell(self, loop: Loop, session: NodeSession, context: Context) -> bool:
        """Send the changes, part by part; return whether the session goes on."""
        telling: Iterator[Message | None] | None = None
        is_last = False
        while not is_last:
            async with self._sending if telling is None else self._going_on:
                await loop.wait_saved()
                if not loop.sessions.holds(session):
                    return False
                messages: list[Message] = []
                if telling is None:
                    session.wake.clear()
                    messages = session.take_notices()
                    telling = session.take(loop.source, loop.revision)
                part = next(telling, _NOTHING)
                is_last = part is not None and not part.assignments.more
                if part is not None and part is not _NOTHING:
                    messages.append(part)
            await _send(context, messages)
        return True


async def _hello(context: Context, receiving: Receiving) -> dispatcher_pb2.Hello:
    try:
        async with asyncio.timeout(HELLO_TIMEOUT_S), receiving.place(counted_as(context)):
            message = received(await context.read(), dispatcher_pb2.AgentMessage)
    except TimeoutError:
        raise InvalidArgument(f"no hello within {HELLO_TIMEOUT_S:g} s") from None
    kind = message.WhichOneof("kind") if message else "end"
    if message is None or kind != "hello":
        raise InvalidArgument(f"a session begins with hello, not with {kind}")
    return message.hello


async def _renew(loop: Loop, worn: int) -> None:
    """Not awaited by the reading loop, as the store may be slow and unread heartbeats count as
    silence.
    """
    with suppress(Unavailable):  # the next heartbeat requests it again
        await loop.submit(renewal(worn), CONTROLLER)


async def _forget_copies(loop: Loop, node_id: NodeId, gone: list[VolumeId]) -> None:
    with suppress(Unavailable):  # the next session requests it again
        await loop.submit(copies_removed(node_id, gone), CONTROLLER)


def _certificate(
    cluster: Cluster, node: Node, key: EllipticCurvePublicKey
) -> dispatcher_pb2.Certificate:
    """The certificate that the node's object names."""
    now, lifetime = node.certificate.issued_at, cluster.spec.cert_expiry
    subject = Subject(Unit.WORKER, node.id, cluster.id)
    # An agent serves its metrics, by a name that no controller has.
    issued = issuer_of(cluster.ca).certify(key, subject, lifetime, now, serves=AGENT_NAME)
    return dispatcher_pb2.Certificate(
        chain=issued.pem + cluster.cross_certificate.encode(),
        roots="".join(trusted_roots(cluster)).encode(),
        issued_at=now,
        expires_at=issued.expires_at,
    )


def _proof(request: dispatcher_pb2.RenewCertificateRequest) -> Proof:
    return Proof(request.former_certificate, request.csr, request.proof)


def _rejoin(request: dispatcher_pb2.RenewCertificateRequest) -> Rejoin:
    return Rejoin(NodeId(request.node_id), _proof(request) if request.proof else None)


def _open(loop: Loop, context: Context, hello: dispatcher_pb2.Hello) -> NodeSession:
    node_id, peer = calling_node(loop.state, context).id, address_of(context)
    description = read(NodeDescription, hello.description)
    greeted = greet(loop.state, node_id, description, hello.addr, hello.addrs6)
    session = loop.opened(node_id)
    session.peer = peer
    loop.hello(node_id, replace(greeted, peer=peer))
    return loop.sources.opened(session)


def _intake(loop: Loop, node_id: NodeId, statuses: list[TaskStatus]) -> None:
    reports = Reports(loop.state, node_id)
    loop.intake(node_id, reports.checked(statuses))
    if reports.refused:
        more = len(reports.refused) - 1
        _log.warning("status.refused", node=node_id, what=reports.refused[0], more=more)


async def _send(context: Context, messages: list[Message]) -> None:
    try:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            for message in messages:
                await context.write(message)
    except TimeoutError:
        raise Unavailable(f"the agent accepted no message for {WRITE_TIMEOUT_S:g} s") from None
