"""A controller that leads, over a store in memory, with callers that identify over TLS."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
from msgspec.structs import replace

from controller.api.changes.users import NewToken, create_token, create_user
from controller.api.queries.info import ControllerFacts
from controller.brain.decide import decide
from controller.grpc.admission import Admission
from controller.grpc.auditing import Auditing
from controller.grpc.authentication import Authentication
from controller.grpc.authorization import Authorization
from controller.grpc.calls import ErrorsToStatus
from controller.grpc.control import Control
from controller.grpc.dispatcher import Dispatcher
from controller.grpc.health import Health
from controller.grpc.listening import add_socket
from controller.grpc.peers import sockets_of
from controller.identity import ca
from controller.identity.caller import CONTROLLER
from controller.identity.cluster import first_cluster, root_digest
from controller.leader.election import Term
from controller.leader.leadership import Mutation
from controller.leader.loop import Loop
from controller.leader.persistence.loading import load
from controller.leader.persistence.saving import Saver
from controller.leader.tools import Tools
from controller.metrics import Metrics
from controller.registry.registry import FleetRegistry, NoRegistry
from controller.store.base import Put, Txn
from controller.store.memory import MemoryKv
from controller.store.memory_store import MemoryStore
from pyswarm_core.aio.channel import CHANNEL_OPTIONS, SERVER_OPTIONS
from pyswarm_core.aio.credentials import ClientCredentials, channel
from pyswarm_core.aio.echo import NoEchoes
from pyswarm_core.aio.system import RandomIds, SteadyClock, SystemClock
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import control_pb2_grpc, dispatcher_pb2_grpc
from pyswarm_core.clock import HOUR, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Unavailable
from pyswarm_core.identity.tokens import UserToken, secret_of
from pyswarm_core.identity.trust import SERVER_NAME
from pyswarm_core.identity.users import Role, User, UserSpec
from pyswarm_core.keys import Keys
from tests.fixtures.envelopes import FixedAutolock, counted_nonces
from tests.fixtures.identity import Pki
from tests.integration.controller.fleet import OWN_CONNECTION, WAIT_S

KEYS = Keys()
FLEET = "f" * 25
SECRET = secret_of(4711)


class Identified:
    """The controller, and what its callers have."""

    controller = "c1"
    leader = "192.0.2.1:2377"

    def __init__(self, folder: Path) -> None:
        self.clock = SystemClock()
        self.registry: FleetRegistry | NoRegistry = NoRegistry()
        self.cluster = first_cluster(FLEET, "j" * 25, self.clock.now())
        self.ca = Pki(self.cluster)
        self.guest = self.ca.guest()
        self.ids = RandomIds()
        self.loop: Loop | None = None
        self.leads = True
        self.renewed: dict[str, Instant] = {}
        self.socket = f"unix:{folder}/api.sock"
        self.authentication = Authentication(
            self,
            self.clock,
            lambda node: self.renewed.get(node.id, Instant(0)),
            sockets_of([self.socket]),
        )
        self.admission = Admission()
        self.port = 0

    def current(self) -> Loop:
        if self.loop is None or not self.leads:
            raise Unavailable(f"this controller does not lead: the leader is at {self.leader}")
        return self.loop

    async def settled(self) -> None:
        pass

    async def change(self, mutation: Mutation[Any]) -> Any:
        assert self.loop is not None
        return await self.loop.submit(mutation, CONTROLLER)

    async def put(self, *objects: Any) -> None:
        await self.change(lambda state, now, ids: (Writes(objects=objects), None))

    async def user(self, name: str, role: Role, *stacks: str) -> User:
        spec = UserSpec(name=name, role=role, stacks=stacks)
        user: User = await self.change(lambda state, now, ids: create_user(state, spec, now, ids))
        return user

    async def token(self, user: User, lifetime: int = 0) -> str:
        new = NewToken(user.id, hashlib.sha256(SECRET.encode()).hexdigest(), lifetime)
        token = await self.change(lambda state, now, ids: create_token(state, new, now, ids))
        return str(UserToken(root_digest(self.cluster), token.id, SECRET))

    def dial(self, holder: ClientCredentials | None) -> grpc.aio.Channel:
        """A connection over TLS, which trusts this controller; None: without a certificate."""
        address, root = f"127.0.0.1:{self.port}", self.cluster.ca.certificate.encode()
        if holder is not None:
            trusting = replace(holder, ca_pem=root)
            return channel(address, trusting, aio=True, options=OWN_CONNECTION)
        options = (*OWN_CONNECTION, ("grpc.ssl_target_name_override", SERVER_NAME))
        return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(root), options)

    def as_user(self, user: User, left: int = HOUR) -> grpc.aio.Channel:
        """The user by its certificate."""
        return self.dial(self.ca.user(user.id, lifetime=left))

    def as_root(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self.socket, options=CHANNEL_OPTIONS)

    async def _lead(self, group: asyncio.TaskGroup) -> "asyncio.Task[None]":
        store = MemoryStore(MemoryKv(), SteadyClock())
        lease = await store.grant_lease(600)
        won = await store.commit(Txn((), (Put(KEYS.leader, b"me", lease.id),)))
        now = self.clock.now()
        term = Term(lease.id, 600, won.revision, won.revision, now)
        envelope = counted_nonces()
        saver = Saver(store, KEYS, term, b"me", envelope=envelope, on_error=lambda _: None)
        tools = Tools(
            decide,
            saver,
            self.clock,
            self.ids,
            Metrics(),
            (),
            NoEchoes,
            callers_changed=self.authentication.calls.changed,
        )
        self.loop = Loop(await load(store, KEYS, envelope, lambda: self.cluster, now), tools)
        return group.create_task(self.loop.run())

    async def _serve(self) -> grpc.aio.Server:
        interceptors = (
            ErrorsToStatus(self.ids),
            self.authentication,
            self.admission,
            Auditing(self),
            Authorization(self),
        )
        server = grpc.aio.server(interceptors=interceptors, options=SERVER_OPTIONS)
        facts = ControllerFacts(version="1.2.3", store="none", join_addr=self.leader)
        control = Control(self, self.clock, facts, list, FixedAutolock(), registry=self.registry)
        control_pb2_grpc.add_ControlServicer_to_server(control, server)
        dispatcher = Dispatcher(self, self.clock, self.admission.strangers)
        dispatcher_pb2_grpc.add_DispatcherServicer_to_server(dispatcher, server)
        Health().add_to(server)
        self.port = server.add_secure_port("127.0.0.1:0", self.ca.server())
        add_socket(server, self.socket)
        await server.start()
        return server


@asynccontextmanager
async def identified(
    folder: Path, registry: Callable[[Identified], FleetRegistry] | None = None
) -> AsyncIterator[Identified]:
    """A controller with identity until the block is left; with the registry that this makes."""
    found = Identified(folder)
    if registry is not None:
        found.registry = registry(found)
    async with asyncio.TaskGroup() as group:
        leading = await found._lead(group)
        server = await found._serve()
        try:
            yield found
        finally:
            await server.stop(None)
            leading.cancel()
            with suppress(asyncio.CancelledError):
                await leading


async def issued(
    connection: grpc.aio.Channel, ref: str = "", token: str = ""
) -> tuple[grpc.StatusCode, str, ClientCredentials]:
    """The answer to a request for a certificate: its code, its text, the certificate."""
    key = ca.new_key()
    request = pb.IssueUserCertificateRequest(ref=ref, csr=ca.csr_pem(key).decode())
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    call = control_of(connection).IssueUserCertificate(request, metadata=metadata)
    code, details = await call.code(), await call.details() or ""
    chain = (await call).chain.encode() if code is grpc.StatusCode.OK else b""
    return code, details, ClientCredentials(b"", chain, ca.key_pem(key))


def control_of(connection: grpc.aio.Channel) -> Any:
    """A client of Control."""
    return control_pb2_grpc.ControlStub(connection)


async def info(connection: grpc.aio.Channel, token: str = "") -> tuple[grpc.StatusCode, str]:
    """How a call of a viewer ends: its code, its text."""
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    call = control_of(connection).GetInfo(pb.GetInfoRequest(), metadata=metadata, timeout=WAIT_S)
    return await call.code(), await call.details()
