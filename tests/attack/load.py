"""`python -m tests.attack.load SOCKET ADDRESS TOKEN SECONDS SEED [churn]`: hostile calls.

A program of its own, so that what it costs is not counted against the calls that are measured.
Prints one JSON object: calls by method and status. Removes what it made.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, NamedTuple

import grpc

from controller.identity import ca
from pyswarm_core.aio.credentials import ClientCredentials, channel, guest
from pyswarm_core.aio.handshake import fetch_chain
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import control_pb2_grpc, dispatcher_pb2, dispatcher_pb2_grpc
from pyswarm_core.codec import to_proto
from pyswarm_core.identity.tokens import parse_join_token
from pyswarm_core.kinds import NETWORK, USER, Kind
from pyswarm_core.limits import PROTOCOL
from pyswarm_core.specs import (
    PREDEFINED_NETWORKS,
    ContainerSpec,
    GlobalMode,
    NetworkSpec,
    Placement,
    ReplicatedMode,
    RestartPolicy,
    ServiceSpec,
    TaskSpec,
)
from tests.attack.churn import MAKERS, Churn
from tests.attack.messages import Hostile, Method, methods
from tests.fixtures.parts import whole

FUZZERS = 4
FUZZ_PAUSE_S = 0.02
"""Four fuzzers send some hundred messages a second: a flood, but not the measure of a machine."""
WATCHES = 300
EVENTS = 100
LOGS = 100
SESSIONS = 100
CALL_TIMEOUT_S = 10.0
STREAM_LIFE_S = (1.0, 20.0)
SLACK_S = 30.0
"""A call or stream that lasts so much longer than it may hangs."""
PREFIX = "attack-"
VICTIM = "web"
"""Watched and logged, never named by a change."""


class Callers(NamedTuple):
    """The connections of the attack."""

    user: grpc.aio.Channel
    """On the controller's socket."""
    guest: grpc.aio.Channel
    """With the certificate that everybody has."""
    address: str
    """Of the controller, for hosts that joined."""


class Load:
    """The attack on one controller."""

    def __init__(self, callers: Callers, token: str, seconds: float, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self._callers = callers
        self._channel = callers.user
        self._token = token
        self._ends_at = time.monotonic() + seconds
        self._pause_s = min(1.0, seconds / 60)
        """Between two absurd specs: all are submitted in the time."""
        self._chance = random.Random(seed)
        self._users = control_pb2_grpc.ControlStub(callers.user)
        self._guests = dispatcher_pb2_grpc.DispatcherStub(callers.guest)
        names = tuple(f"{PREFIX}{number}" for number in range(8))
        self._hostile = Hostile(self._chance, names)
        self._methods = tuple(methods())
        self._hosts: dict[int, tuple[ClientCredentials, dispatcher_pb2.JoinRequest]] = {}
        """Those that joined."""

    async def run(self, *, with_churn: bool) -> None:
        """Attack until it is time, then remove what was made. Hosts join first: fuzzers rotate the
        join token.
        """
        await asyncio.gather(*(self._join(number) for number in range(SESSIONS)))
        makers: list[tuple[int, Callable[[int], Coroutine[None, None, None]]]] = [
            (FUZZERS, self._fuzz),
            (WATCHES, self._watch),
            (EVENTS, self._follow_events),
            (LOGS, self._follow_logs),
            (SESSIONS, self._be_a_host),
            (1, self._submit_absurd_specs),
        ]
        if with_churn:
            churn = Churn(self._users, self._count, self._over)
            makers += [
                (1, lambda _: churn.crash_loop(f"{PREFIX}crash")),
                (MAKERS, churn.shake_networks),
                (1, lambda _: churn.relabel()),
            ]
        async with asyncio.TaskGroup() as group:
            for count, make in makers:
                for number in range(count):
                    group.create_task(make(number))
        await self._clean()

    def _life_s(self) -> float:
        """Of a stream that is opened now: it ends with the attack, or a little later."""
        left_s = self._ends_at - time.monotonic()
        return min(self._chance.uniform(*STREAM_LIFE_S), max(left_s, STREAM_LIFE_S[0]))

    def _over(self) -> bool:
        return time.monotonic() >= self._ends_at

    async def _count(
        self, name: str, call: Awaitable[object], limit_s: float = CALL_TIMEOUT_S
    ) -> None:
        try:
            async with asyncio.timeout(limit_s + SLACK_S):
                await call
            self.counts[f"{name} OK"] += 1
        except grpc.aio.AioRpcError as error:
            self.counts[f"{name} {error.code().name}"] += 1
        except TimeoutError:
            self.counts[f"{name} HUNG"] += 1

    # Fuzzing

    async def _fuzz(self, _: int) -> None:
        while not self._over():
            method = self._chance.choice(self._methods)
            await self._count(method.path.rpartition("/")[2], self._send(method))
            await asyncio.sleep(FUZZ_PAUSE_S)

    async def _send(self, method: Method) -> None:
        request = self._hostile.request(method.request)
        codec = {"request_serializer": _same, "response_deserializer": _same}
        if method.streams_in:
            stream = self._channel.stream_stream(method.path, **codec)(None, timeout=CALL_TIMEOUT_S)
            with suppress(asyncio.InvalidStateError):  # it may end while we write
                for _ in range(self._chance.choice((1, 1, 3))):
                    await stream.write(request)
                await stream.done_writing()
            while isinstance(await stream.read(), bytes):
                pass
        elif method.streams_out:
            replies = self._channel.unary_stream(method.path, **codec)(request, timeout=1.0)
            with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
                for _ in range(5):
                    if not isinstance(await replies.read(), bytes):
                        break
            replies.cancel()
        else:
            await self._channel.unary_unary(method.path, **codec)(request, timeout=CALL_TIMEOUT_S)

    # Streams by the hundred

    async def _watch(self, _: int) -> None:
        await self._hold("watch", lambda: self._users.WatchService(_watched()))

    async def _follow_events(self, _: int) -> None:
        await self._hold("events", lambda: self._users.Events(pb.EventsRequest(follow=True)))

    async def _follow_logs(self, _: int) -> None:
        request = pb.LogsRequest(ref=VICTIM, follow=True, tail=10)
        await self._hold("logs", lambda: self._users.Logs(request))

    async def _hold(self, name: str, opened: Callable[[], grpc.aio.UnaryStreamCall]) -> None:  # type: ignore[type-arg]
        """Streams, one after the other; every second one is never read."""
        while not self._over():
            await asyncio.sleep(self._chance.uniform(0, 2))
            call = opened()
            life_s = self._life_s()
            held = _read_for(call, life_s, reads=self._chance.random() < 0.5)
            await self._count(name, held, life_s)

    # Hosts

    async def _join(self, number: int) -> None:
        key = ca.new_key()
        join = dispatcher_pb2.JoinRequest(
            token=self._token,
            addr=f"10.99.1.{number + 1}",
            availability="pause",
            csr=ca.csr_pem(key),
        )
        join.description.protocol = PROTOCOL
        join.description.hostname = f"{PREFIX}host{number}"
        join.description.resources.memory_bytes = 1 << 30
        try:
            reply = await self._guests.Join(join, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            self.counts[f"join {error.code().name}"] += 1
            return
        self.counts["join OK"] += 1
        own = reply.certificate
        credentials = ClientCredentials(own.roots, own.chain, ca.key_pem(key))
        self._hosts[number] = credentials, join

    async def _be_a_host(self, number: int) -> None:
        if number not in self._hosts:
            return
        credentials, join = self._hosts[number]
        async with channel(self._callers.address, credentials, aio=True) as connection:
            agent = dispatcher_pb2_grpc.DispatcherStub(connection)
            while not self._over():
                hello = dispatcher_pb2.Hello(addr=join.addr, description=join.description)
                await self._count("session", self._converse(agent, hello), STREAM_LIFE_S[1])
                await asyncio.sleep(self._chance.uniform(0, 2))

    async def _converse(
        self, agent: "dispatcher_pb2_grpc.DispatcherAsyncStub", hello: dispatcher_pb2.Hello
    ) -> None:
        """A session with heartbeats, garbage between them, and answers that nobody reads."""
        life_s = self._life_s()
        ends_at = time.monotonic() + life_s

        async def said() -> AsyncIterator[dispatcher_pb2.AgentMessage]:
            yield dispatcher_pb2.AgentMessage(hello=hello)
            while time.monotonic() < ends_at and not self._over():
                await asyncio.sleep(0.5)
                yield self._word()

        call = agent.Session(said())
        try:
            async with asyncio.timeout(life_s + 2):
                async for _ in call:
                    pass
        except TimeoutError:
            pass
        finally:
            call.cancel()

    def _word(self) -> dispatcher_pb2.AgentMessage:
        message = dispatcher_pb2.AgentMessage()
        if self._chance.random() < 0.1:
            with suppress(Exception):  # what protobuf cannot read, our side cannot send
                message.ParseFromString(self._hostile.request(message.DESCRIPTOR))
        if not message.WhichOneof("kind") or message.HasField("hello"):
            message = dispatcher_pb2.AgentMessage(heartbeat=dispatcher_pb2.Heartbeat())
        return message

    # Specs that are valid

    async def _submit_absurd_specs(self, _: int) -> None:
        while not self._over():
            for number, spec in enumerate(absurd_specs()):
                request = pb.CreateServiceRequest()
                to_proto(spec, request.spec)
                await self._count(
                    "absurd", self._users.CreateService(request, timeout=CALL_TIMEOUT_S)
                )
                await self._count(
                    "why", self._users.Why(pb.RefRequest(ref=spec.name), timeout=CALL_TIMEOUT_S)
                )
                network = pb.CreateNetworkRequest()
                to_proto(NetworkSpec(name=f"{PREFIX}net{number}"), network.spec)
                await self._count(
                    "network", self._users.CreateNetwork(network, timeout=CALL_TIMEOUT_S)
                )
                await asyncio.sleep(self._pause_s)
                if self._over():
                    break
            await self._clean()

    async def _clean(self) -> None:
        """Remove every object of ours."""
        services = (
            await whole(
                pb.ListServicesReply,
                self._users.ListServices(pb.ListRequest(), timeout=CALL_TIMEOUT_S),
            )
        ).services
        for one in services:
            if one.service.spec.name != VICTIM:
                await self._count(
                    "remove",
                    self._users.RemoveService(
                        pb.RemoveServiceRequest(ref=one.service.id), timeout=CALL_TIMEOUT_S
                    ),
                )
        for network in await self._objects(NETWORK):
            if network.id not in PREDEFINED_NETWORKS and network.spec.name != "ingress":
                await self._remove(NETWORK.name, network.id)
        for user in await self._objects(USER):
            await self._remove(USER.name, user.id)
        if self._over():
            for view in (
                await whole(
                    pb.ListNodesReply,
                    self._users.ListNodes(pb.ListRequest(), timeout=CALL_TIMEOUT_S),
                )
            ).nodes:
                if not view.node.status.addr.startswith("10.99.0."):
                    request = pb.RemoveNodeRequest(ref=view.node.id, force=True)
                    await self._count(
                        "remove", self._users.RemoveNode(request, timeout=CALL_TIMEOUT_S)
                    )

    async def _objects(self, kind: Kind[Any, Any]) -> list[Any]:
        request = pb.ListObjectsRequest(kind=kind.name)
        listed = self._users.ListObjects(request, timeout=CALL_TIMEOUT_S)
        reply = await whole(pb.ListObjectsReply, listed)
        return [kind.decode(one.value) for one in reply.objects]

    async def _remove(self, kind: str, ref: str) -> None:
        request = pb.ObjectRequest(kind=kind, ref=ref)
        await self._count("remove", self._users.RemoveObject(request, timeout=CALL_TIMEOUT_S))


def absurd_specs() -> list[ServiceSpec]:
    """Valid, and nothing that anybody should ask for."""
    nowhere = Placement(constraints=("node.labels.no==where",))
    at_once = RestartPolicy(delay=0, max_attempts=50, window=86_400 * 10**9)
    absent = ContainerSpec(image="absent:1", command=("/opt/" + "x" * 460,))
    large = ContainerSpec(image="absent:1", env=tuple(f"N{i}={'v' * 100}" for i in range(1_500)))
    wide = ContainerSpec(image="absent:1", labels={f"l{i}": "v" * 50 for i in range(1_000)})

    def named(name: str, replicas: int, container: ContainerSpec, **more: object) -> ServiceSpec:
        return ServiceSpec(
            name=f"{PREFIX}{name}",
            task_template=TaskSpec(container_spec=container, **more),  # type: ignore[arg-type]
            mode=ReplicatedMode(replicas=replicas),
        )

    return [
        named("0", 100_000, absent, placement=nowhere),
        named("1", 64, absent, restart_policy=at_once),
        named("2", 4_000, large, placement=nowhere),
        named("3", 0, wide),
        named("4", 1, absent, placement=Placement(constraints=("node.labels.a!=b",) * 50)),
        ServiceSpec(
            name=f"{PREFIX}5",
            task_template=TaskSpec(container_spec=absent, placement=nowhere),
            mode=GlobalMode(),
        ),
        *(named(f"many{number}", 1, absent, placement=nowhere) for number in range(50)),
    ]


def _watched() -> pb.WatchServiceRequest:
    return pb.WatchServiceRequest(ref=VICTIM, follow=True)


async def _read_for(call: grpc.aio.UnaryStreamCall, life_s: float, *, reads: bool) -> None:  # type: ignore[type-arg]
    try:
        async with asyncio.timeout(life_s):
            if not reads:
                await asyncio.sleep(life_s)
            async for _ in call:
                pass
    except TimeoutError:
        pass
    finally:
        call.cancel()


def _same(data: bytes) -> bytes:
    return data


async def attack(
    targets: tuple[str, str], token: str, seconds: float, seed: int, *, with_churn: bool
) -> Counter[str]:
    """Run it on this socket and address; what was answered."""
    socket, address = targets
    trust = fetch_chain(address, parse_join_token(token).digest)
    async with (
        channel(f"unix:{socket}", None, aio=True) as user,
        channel(address, guest(trust), aio=True) as nobody,
    ):
        load = Load(Callers(user, nobody, address), token, seconds, seed)
        await load.run(with_churn=with_churn)
        return load.counts


if __name__ == "__main__":
    path, port, shown, lasting, drawn, *more = sys.argv[1:]
    churns = more == ["churn"]
    answered = attack((path, port), shown, float(lasting), int(drawn), with_churn=churns)
    print(json.dumps(asyncio.run(answered)))
