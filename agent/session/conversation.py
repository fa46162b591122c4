"""The agent's conversation with the leader: dial, greet, report, receive; and again when it breaks.
SHELL.

Nothing here is remembered beyond one stream: every session begins with a full report and a full
assignment, so a lost message costs a reconnect, never a wrong state.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

import grpc
import msgspec
from google.protobuf.message import DecodeError

from agent.assigned import Assigned, assigned_from, joined
from agent.network.base import Fault
from agent.outbox import Outbox
from agent.session.identity import Identity
from agent.worker import Worker
from pyswarm_core.aio.channel import CHANNEL_OPTIONS
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.api.v1 import dispatcher_pb2, dispatcher_pb2_grpc, objects_pb2
from pyswarm_core.clock import SECOND, seconds
from pyswarm_core.codec import to_proto
from pyswarm_core.indexes.columns import pack_statuses
from pyswarm_core.limits import (
    ASSIGNMENT_PARTS,
    FAULT_LENGTH_MAX,
    PROTOCOL,
    PROTOCOL_OLDEST,
    STATUSES_PER_MESSAGE,
)
from pyswarm_core.objects import NodeDescription

_log = EventLog("agent.session")

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 2.0
BACKOFF_REFUSED_S = 6.5
"""A controller that has too much to do is dialled again after 3 to 10 s: within LEADER_GRACE."""
REFUSED = frozenset({grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL})
"""Where the controller refuses a stream while the hello is being written, gRPC's client puts
INTERNAL ("Internal error from Core", of the write that failed) in place of the status.
"""
COALESCE_S = 0.01
"""Statuses of one task that follow each other this closely travel as one."""

OpenTunnel = Callable[
    ["dispatcher_pb2_grpc.DispatcherAsyncStub", dispatcher_pb2.OpenTunnel],
    Coroutine[None, None, None],
]


class Ended(Exception):
    """The session is over for a reason that is not a transport's."""


class Greeting(msgspec.Struct, frozen=True):
    """What every session says first."""

    description: NodeDescription
    addr: str
    addrs6: tuple[str, ...] = ()


class Session:
    """Keeps one stream to whoever leads. `run` returns only when cancelled."""

    def __init__(
        self,
        identity: Identity,
        greeting: Callable[[], Awaitable[Greeting]],
        outbox: Outbox,
        worker: Worker,
        *,
        assign: Callable[[Assigned], Awaitable[None]],
        probe: Callable[[str, str, int], object],
        open_tunnel: OpenTunnel,
        worn_key: Callable[[], int] = lambda: 0,
        faults: Callable[[], tuple[Fault, ...]] = lambda: (),
    ) -> None:
        self._identity = identity
        self._greeting = greeting
        self._outbox = outbox
        self._worker = worker
        self._assign = assign
        self._probe = probe
        self._open_tunnel = open_tunnel
        self._worn_key = worn_key
        self._faults = faults
        self._heartbeat_s = 1.0
        self._leader = ""
        self._stream = 0
        self._parts: list[Assigned] = []
        """Of an assignment that goes on."""
        self.connected = False

    async def run(self) -> None:
        """Converse for ever, with whichever controller leads."""
        backoff = BACKOFF_FIRST_S
        turn = 0
        hopped = False
        while True:
            refused = False
            controllers = self._identity.controllers
            address = self._leader or controllers[turn % len(controllers)]
            self._leader = ""
            turn += 1
            try:
                await self._converse(address)
            except* (grpc.RpcError, Ended, TimeoutError, OSError) as errors:
                _log.warning("session.ended", controller=address, error=_reason(errors))
                refused = not self.connected and _code(errors) in REFUSED
            backoff = BACKOFF_FIRST_S if self.connected else min(backoff * 2, BACKOFF_MAX_S)
            self.connected = False
            # A redirect is followed at once, but not a chain of them: controllers that do not know
            # yet who leads name each other.
            hopped = bool(self._leader) and not hopped
            if not hopped:
                pause = BACKOFF_REFUSED_S if refused else backoff
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))

    async def _converse(self, address: str) -> None:
        async with (
            grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel,
            asyncio.TaskGroup() as tunnels,
        ):
            stub = dispatcher_pb2_grpc.DispatcherStub(channel)
            self._begin()
            call = stub.Session(self._outgoing(self._stream))
            try:
                async for message in call:
                    await self._take(message, stub, tunnels)
            finally:
                call.cancel()
            raise Ended("the controller closed the session")

    def _begin(self) -> None:
        """A new stream: what another said or was told in part does not count."""
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
                return  # gRPC lets a dead stream's iterator wait on: it must not take our words
            for node_id, answered in self._outbox.take_probed().items():
                result = dispatcher_pb2.ProbeResult(node_id=node_id, answered=answered)
                yield dispatcher_pb2.AgentMessage(probe_result=result)
            statuses, revision, digest = self._outbox.drain(STATUSES_PER_MESSAGE)
            if statuses:
                yield dispatcher_pb2.AgentMessage(statuses=pack_statuses(statuses))
            if revision:
                acknowledge = dispatcher_pb2.Acknowledge(revision=revision, digest=digest)
                yield dispatcher_pb2.AgentMessage(acknowledge=acknowledge)

    def _heartbeat(self) -> dispatcher_pb2.Heartbeat:
        return dispatcher_pb2.Heartbeat(
            worn_key=self._worn_key(),
            faults=[
                objects_pb2.NodeFault(
                    network_id=fault.network_id,
                    reason=fault.reason[:FAULT_LENGTH_MAX],
                    blocks=fault.blocks,
                )
                for fault in self._faults()
            ],
        )

    def _hello(self, greeting: Greeting) -> dispatcher_pb2.Hello:
        self._outbox.clear()
        hello = dispatcher_pb2.Hello(
            node_id=self._identity.node_id,
            token=self._identity.token,
            description=to_proto(greeting.description, objects_pb2.NodeDescription()),
            addr=greeting.addr,
            addrs6=greeting.addrs6,
        )
        report = self._worker.report()
        hello.statuses.CopyFrom(pack_statuses(report[:STATUSES_PER_MESSAGE]))
        for status in report[STATUSES_PER_MESSAGE:]:
            self._outbox.put(status)  # each message is a heartbeat, too
        return hello

    async def _take(
        self,
        message: dispatcher_pb2.ControllerMessage,
        stub: "dispatcher_pb2_grpc.DispatcherAsyncStub",
        tunnels: asyncio.TaskGroup,
    ) -> None:
        match message.WhichOneof("kind"):
            case "settings":
                self._settle(message.settings)
            case "assignments":
                await self._take_part(message.assignments)
            case "probe":
                probe = message.probe
                self._probe(probe.node_id, probe.addr, probe.window)
            case "open_tunnel":
                tunnels.create_task(self._open_tunnel(stub, message.open_tunnel))
            case "redirect":
                self._leader = message.redirect.leader
                raise Ended(f"redirected to {self._leader or 'nobody yet'}")
            case _:
                pass  # a newer controller's word

    async def _take_part(self, message: dispatcher_pb2.Assignments) -> None:
        """With the last part all are acted upon at once: what is wanted is complete then."""
        if len(self._parts) >= ASSIGNMENT_PARTS:
            raise Ended(f"the controller sent more than {ASSIGNMENT_PARTS} parts of one assignment")
        try:
            self._parts.append(assigned_from(message))
        except (ValueError, DecodeError) as error:
            raise Ended(f"the controller sent nonsense: {error}") from error
        if not message.more:
            parts, self._parts = self._parts, []
            await self._assign(joined(parts))

    def _settle(self, settings: dispatcher_pb2.Settings) -> None:
        if trouble := too_old(settings.protocol):
            raise Ended(trouble)
        if not self.connected:
            _log.info("session.started", node=self._identity.node_id)
        self.connected = True
        self._heartbeat_s = seconds(settings.heartbeat_period or SECOND)
        self._identity.learn(tuple(settings.controllers))


def too_old(protocol: int) -> str:
    """Why a controller that speaks this cannot be understood; "" if it can."""
    if (protocol or 1) >= PROTOCOL_OLDEST:
        return ""
    return (
        f"the controller speaks protocol {(protocol or 1)}, this agent {PROTOCOL_OLDEST} to"
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
