"""The agent's session with the leader: dial, send hello, report, receive; reconnect when it breaks.
SHELL.

No state outlives a stream: every session begins with a full report and a full assignment, so a lost
message costs a reconnect and never causes a wrong state.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager

import grpc
from google.protobuf.message import DecodeError

from agent.assignment import Assignment, join_parts, parse_assignment
from agent.network.base import Fault
from agent.outbox import Outbox
from agent.session.greeting import Greeting
from agent.session.identity import Identity
from agent.worker import Worker
from pyswarm_core.aio.credentials import channel
from pyswarm_core.aio.daemon import apart, was_cancelled
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.api.v1 import dispatcher_pb2, dispatcher_pb2_grpc, objects_pb2
from pyswarm_core.clock import SECOND, Backoff, seconds
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.controlplane import ControlHost
from pyswarm_core.errors import Unavailable
from pyswarm_core.images.disk import ImageDisk
from pyswarm_core.indexes.columns import pack_ids, pack_statuses
from pyswarm_core.limits import (
    ASSIGNMENT_PARTS,
    FAULT_LENGTH_MAX,
    PROTOCOL,
    PROTOCOL_OLDEST,
    STATUSES_PER_MESSAGE,
)
from pyswarm_core.volumes.limits import VOLUME_USAGE_PER_MESSAGE
from pyswarm_core.volumes.volume import MeasuredVolume, VolumeId, VolumeUsage

_log = EventLog("agent.session")

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 2.0
BACKOFF_REFUSED_S = 6.5
"""An overloaded controller is dialled again after 3 to 10 s: within LEADER_GRACE."""
REFUSED = frozenset({grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL})
"""If the controller refuses a stream while the client writes the hello, gRPC's client replaces the
status by INTERNAL ("Internal error from Core", of the write that failed).
"""
_OUTDATED = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED})
"""So ends a stream whose certificate the handshake or the controller refuses."""
COALESCE_S = 0.01
"""Statuses of one task within this time are sent as one."""

OpenTunnel = Callable[
    [grpc.aio.Channel, dispatcher_pb2.OpenTunnel],
    Coroutine[None, None, None],
]


class SessionEnded(Exception):
    """The session ended for a reason other than the transport."""


class Session:
    """Keeps a stream to the leader open. `run` returns only when cancelled."""

    def __init__(
        self,
        identity: Identity,
        greeting: Callable[[], Awaitable[Greeting]],
        outbox: Outbox,
        worker: Worker,
        *,
        assign: Callable[[Assignment], Awaitable[None]],
        probe: Callable[[str, str, int], object],
        open_tunnel: OpenTunnel,
        close: Callable[[tuple[ControlHost, ...]], Awaitable[None]] | None = None,
        worn_key: Callable[[], int] = lambda: 0,
        faults: Callable[[], tuple[Fault, ...]] = lambda: (),
        image_disk: Callable[[], ImageDisk] = ImageDisk,
        sources: Callable[[tuple[str, ...] | None], None] = lambda _: None,
        roots_changed: Callable[[str], None] = lambda _: None,
        registries_changed: Callable[[tuple[str, ...], str, str], None] = lambda *_: None,
        refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._identity = identity
        self._greeting = greeting
        self._outbox = outbox
        self._worker = worker
        self._assign = assign
        self._probe = probe
        self._open_tunnel = open_tunnel
        self._close = close
        self._worn_key = worn_key
        self._faults = faults
        self._image_disk = image_disk
        self._sources = sources
        self._roots_changed = roots_changed
        self._registries_changed = registries_changed
        self._refused = refused
        self._heartbeat_s = 1.0
        self._leader = self._dialled = ""
        self._shown = ""
        """The certificate that the session's connection was opened with."""
        self._stream = 0
        self._parts: list[Assignment] = []
        """The received parts of an incomplete assignment."""
        self.scrape_digest = b""
        """SHA-256 of the token for metrics, as the controller sent it last; never on disk."""
        self.connected = False
        self._connection: grpc.aio.Channel | None = None
        self.controller = ""
        """The address of the controller that this session is with; empty while there is none."""

    async def run(self) -> None:
        """Keep a session with the leader, until cancelled."""
        backoff = Backoff.doubling(BACKOFF_FIRST_S, BACKOFF_MAX_S)
        attempt = 0
        redirected = False
        while True:
            refused = False
            controllers = self._identity.controllers
            address = self._leader or controllers[attempt % len(controllers)]
            self._leader = ""
            attempt += 1
            try:
                await apart(self._stream_to(address))
            except* (grpc.RpcError, SessionEnded, TimeoutError, OSError) as errors:
                _log.warning("session.ended", controller=address, error=_reason(errors))
                code = _code(errors)
                refused = not self.connected and code in REFUSED
                if not self.connected and code in _OUTDATED:
                    self._refused(address)
            if was_cancelled():
                raise asyncio.CancelledError
            if self.connected:
                backoff.reset()
            pause_s = BACKOFF_REFUSED_S if refused else backoff.next_s()
            self.connected, self.controller = False, ""
            # One redirect is followed at once, a chain of them is not: controllers that do not know
            # the new leader yet redirect to each other.
            redirected = bool(self._leader) and not redirected
            if not redirected:
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))

    async def _stream_to(self, address: str) -> None:
        async with (
            channel(address, self._identity.certificate.credentials, aio=True) as connection,
            asyncio.TaskGroup() as tunnels,
        ):
            stub = dispatcher_pb2_grpc.DispatcherStub(connection)
            self._begin(address)
            call = stub.Session(self._outgoing(self._stream))
            self._connection = connection
            try:
                async for message in call:
                    await self._receive(message, connection, tunnels)
            finally:
                self._connection = None
                call.cancel()
            raise SessionEnded("the controller closed the session")

    def _begin(self, address: str) -> None:
        """Begin a new stream: drop what was sent or received in part on the former one."""
        self._dialled = address
        self._shown = self._identity.certificate.chain
        self._stream += 1
        self._parts = []

    async def _outgoing(self, stream: int) -> AsyncIterator[dispatcher_pb2.AgentMessage]:
        greeting = await self._greeting()
        yield dispatcher_pb2.AgentMessage(hello=self._hello(greeting))
        while True:
            try:
                async with asyncio.timeout(self._heartbeat_s):
                    await self._outbox.wait()
            except TimeoutError:
                yield dispatcher_pb2.AgentMessage(heartbeat=self._heartbeat())
                continue
            await asyncio.sleep(COALESCE_S)
            if stream != self._stream:
                return  # gRPC keeps the iterator of a broken stream: it must not drain the outbox
            for message in self._drained():
                yield message

    def _drained(self) -> Iterator[dispatcher_pb2.AgentMessage]:
        """Remove from the outbox what one round of messages takes. An acknowledgement comes after
        the statuses that were queued before it.
        """
        for node_id, answered in self._outbox.take_probed().items():
            result = dispatcher_pb2.ProbeResult(node_id=node_id, answered=answered)
            yield dispatcher_pb2.AgentMessage(probe_result=result)
        if removed := self._outbox.take_removed_volumes():
            message = dispatcher_pb2.VolumesRemoved(ids=pack_ids(removed))
            yield dispatcher_pb2.AgentMessage(volumes_removed=message)
        if found := self._outbox.take_sources():
            yield dispatcher_pb2.AgentMessage(found_sources=_sources(found))
        if used := self._outbox.take_measured(VOLUME_USAGE_PER_MESSAGE):
            yield _measured(used)
        statuses, revision, digest = self._outbox.drain(STATUSES_PER_MESSAGE)
        if statuses:
            yield dispatcher_pb2.AgentMessage(statuses=pack_statuses(statuses))
        if revision:
            acknowledge = dispatcher_pb2.Acknowledge(revision=revision, digest=digest)
            yield dispatcher_pb2.AgentMessage(acknowledge=acknowledge)

    def _heartbeat(self) -> dispatcher_pb2.Heartbeat:
        disk = self._image_disk()
        return dispatcher_pb2.Heartbeat(
            worn_key=self._worn_key(),
            clock=time.time_ns(),
            faults=[
                objects_pb2.NodeFault(
                    network_id=fault.network_id,
                    reason=fault.reason[:FAULT_LENGTH_MAX],
                    blocks=fault.blocks,
                )
                for fault in self._faults()
            ],
            image_disk=to_proto(disk, objects_pb2.ImageDisk()) if disk.reason else None,
        )

    def _hello(self, greeting: Greeting) -> dispatcher_pb2.Hello:
        self._outbox.clear()
        self._sources(None)
        hello = dispatcher_pb2.Hello(
            description=to_proto(greeting.description, objects_pb2.NodeDescription()),
            addr=greeting.addr,
            addrs6=greeting.addrs6,
        )
        report = self._worker.report()
        hello.statuses.CopyFrom(pack_statuses(report[:STATUSES_PER_MESSAGE]))
        for status in report[STATUSES_PER_MESSAGE:]:
            self._outbox.put(status)  # each message is also a heartbeat
        return hello

    async def _receive(
        self,
        message: dispatcher_pb2.ControllerMessage,
        connection: grpc.aio.Channel,
        tunnels: asyncio.TaskGroup,
    ) -> None:
        match message.WhichOneof("kind"):
            case "settings":
                self._apply_settings(message.settings)
            case "assignments":
                await self._receive_part(message.assignments)
            case "control_plane":
                told = message.control_plane.hosts
                if self._close:
                    await self._close(tuple(from_proto(ControlHost, host) for host in told))
            case "bind_sources":
                self._sources(tuple(message.bind_sources.paths))
            case "probe":
                probe = message.probe
                self._probe(probe.node_id, probe.addr, probe.window)
            case "open_tunnel":
                tunnels.create_task(self._dial_back(connection, message.open_tunnel))
            case "redirect":
                self._leader = message.redirect.leader
                to = f"redirected to {self._leader}" if self._leader else "there is no leader yet"
                raise SessionEnded(to)
            case _:
                pass  # a message of a newer controller

    async def _dial_back(
        self, connection: grpc.aio.Channel, request: dispatcher_pb2.OpenTunnel
    ) -> None:
        async with self._valid(connection) as newest:
            await self._open_tunnel(newest, request)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[grpc.aio.Channel]:
        """A connection to the leader. Raises Unavailable while there is no session."""
        if self._connection is None or not self.connected:
            raise Unavailable("no controller is connected")
        async with self._valid(self._connection) as newest:
            yield newest

    @asynccontextmanager
    async def _valid(self, connection: grpc.aio.Channel) -> AsyncIterator[grpc.aio.Channel]:
        """The session's connection, or another if the certificate that it was opened with is no
        longer the newest: the controller refuses calls with an older one.
        """
        newest = self._identity.certificate
        if newest.chain == self._shown:
            yield connection
            return
        async with channel(self._dialled, newest.credentials, aio=True) as another:
            yield another

    async def _receive_part(self, message: dispatcher_pb2.Assignments) -> None:
        """Apply an assignment once its last part has arrived: only then is it complete."""
        if len(self._parts) >= ASSIGNMENT_PARTS:
            raise SessionEnded(f"an assignment has more than {ASSIGNMENT_PARTS} parts")
        try:
            self._parts.append(parse_assignment(message))
        except (ValueError, DecodeError) as error:
            raise SessionEnded(f"the controller sent a malformed assignment: {error}") from error
        if not message.more:
            parts, self._parts = self._parts, []
            await self._assign(join_parts(parts))

    def _apply_settings(self, settings: dispatcher_pb2.Settings) -> None:
        if problem := too_old(settings.protocol):
            raise SessionEnded(problem)
        if not self.connected:
            _log.info("session.started", node=self._identity.node_id)
        self.connected, self.controller = True, self._dialled
        self._heartbeat_s = seconds(settings.heartbeat_period or SECOND)
        self._identity.learn(tuple(settings.controllers))
        self.scrape_digest = settings.scrape_digest
        roots = settings.roots.decode()
        self._roots_changed(roots)
        self._registries_changed(tuple(settings.registries), settings.registry_password, roots)


def _sources(found: Mapping[str, str]) -> dispatcher_pb2.FoundSources:
    columns: dict[str, list[str]] = {}
    for path, what in found.items():
        columns.setdefault(what, []).append(path)
    return dispatcher_pb2.FoundSources(**columns)


def _measured(used: Mapping[str, VolumeUsage]) -> dispatcher_pb2.AgentMessage:
    message = dispatcher_pb2.MeasuredVolumes()
    for volume_id, usage in used.items():
        to_proto(MeasuredVolume(VolumeId(volume_id), usage), message.volumes.add())
    return dispatcher_pb2.AgentMessage(measured_volumes=message)


def too_old(protocol: int) -> str:
    """The error of a controller with an unsupported protocol; "" if it is supported."""
    if (protocol or 1) >= PROTOCOL_OLDEST:
        return ""
    return (
        f"the controller has protocol {(protocol or 1)}, this agent supports {PROTOCOL_OLDEST} to"
        f" {PROTOCOL}: upgrade pyswarm on the controller's host"
    )


def _leaf(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    leaf: BaseException = errors
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf


def _code(errors: BaseExceptionGroup[BaseException]) -> grpc.StatusCode | None:
    leaf = _leaf(errors)
    return leaf.code() if isinstance(leaf, grpc.RpcError) else None


def _reason(errors: BaseExceptionGroup[BaseException]) -> str:
    leaf = _leaf(errors)
    if isinstance(leaf, grpc.RpcError):
        return f"{leaf.code().name}: {leaf.details()}"
    return str(leaf) or type(leaf).__name__
