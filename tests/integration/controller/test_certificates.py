"""What a certificate gives and what it does not: sessions, tunnels and renewals over real TLS."""

import asyncio
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from msgspec.structs import replace

from agent.session import identity as agents_identity
from agent.session.identity import Joining
from agent.session.renewal import Renewal
from controller.app import Controller
from controller.config import Config
from controller.identity import ca
from controller.identity.ca import Unit
from controller.identity.caller import CONTROLLER
from controller.identity.keyring import Keyring
from controller.leader.exchanges import IMAGE_LIST, ImageList
from controller.store.base import Put, Txn
from controller.store.memory import MemoryKv
from controller.store.memory_store import MemoryStore
from pyswarm_core.aio.credentials import ClientCredentials, channel
from pyswarm_core.aio.streams.framed import ENDED, send
from pyswarm_core.aio.system import SteadyClock
from pyswarm_core.api.v1 import control_pb2, dispatcher_pb2, dispatcher_pb2_grpc
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import PermissionDenied, PyswarmError
from pyswarm_core.identity.certificates import CertificateAuthority
from pyswarm_core.ids import NodeId
from pyswarm_core.keys import Keys
from pyswarm_core.limits import PROTOCOL
from pyswarm_core.objects import NodeDescription, NodeResources
from pyswarm_core.specs import ClusterSpec
from pyswarm_core.state import State
from pyswarm_core.states import NodeState
from tests.fixtures.identity import Pki, another, key_der, present, signed
from tests.integration.controller.fleet import (
    HELLO,
    FakeAgent,
    agents_of,
    config,
    leading,
    serving,
    until,
    user,
)

LIFETIME = 6 * SECOND
"""Of certificates in the tests that wait for the end of one."""
Frame = dispatcher_pb2.TunnelFrame
REMOVED = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED)
"""What a removed node is told: by the call, or by the table of who may call."""


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(MemoryKv(), SteadyClock())


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    return config(tmp_path)


@pytest.fixture
async def controller(settings: Config, store: MemoryStore) -> AsyncIterator[Controller]:
    async with serving(settings, store) as found:
        await leading(found)
        yield found


@pytest.fixture
async def brief(settings: Config, store: MemoryStore) -> AsyncIterator[Controller]:
    """A controller of a fleet whose certificates are valid for a few seconds."""
    cluster = replace(another().cluster, spec=ClusterSpec(cert_expiry=LIFETIME))
    sealed = Keyring(settings.key_file).envelope(is_new=True).encode(cluster)
    await store.commit(Txn((), (Put(Keys().cluster, sealed),)))
    async with serving(settings, store) as found:
        await leading(found)
        yield found


def pki(controller: Controller) -> Pki:
    return Pki(controller.current().state.cluster)


def nodes(controller: Controller) -> list[NodeId]:
    return list(controller.current().state.nodes)


def holder(credentials: ClientCredentials | None) -> FakeAgent:
    """An agent that shows these, as "host9"."""
    agent = FakeAgent("host9")
    agent.credentials = credentials
    return agent


async def _refusal(call: Any) -> grpc.StatusCode:
    """How the call ends, which must not be well."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    code: grpc.StatusCode = refused.value.code()
    return code


async def _renew(agent: FakeAgent, address: str) -> None:
    """Get another certificate for the agent."""
    key = ca.new_key()
    request = dispatcher_pb2.RenewCertificateRequest(csr=ca.csr_pem(key))
    async with agent.dial(address) as connection:
        stub: Any = dispatcher_pb2_grpc.DispatcherStub(connection)
        agent.take(await stub.RenewCertificate(request, timeout=60), ca.key_pem(key))


async def _dial_back(agent: FakeAgent, address: str, tunnel_id: str) -> grpc.StatusCode:
    """Open the tunnel, and stay until the controller ends it; how it did."""
    async with agent.dial(address) as connection:
        call: Any = dispatcher_pb2_grpc.DispatcherStub(connection).Tunnel(None)
        with suppress(*ENDED):  # its code is what is asked for
            await send(call, Frame(tunnel_id=tunnel_id).SerializeToString())
        code: grpc.StatusCode = await call.code()
        return code


# Sessions and the life of a certificate


async def test_a_session_survives_the_renewal_and_the_end_of_its_certificate(
    brief: Controller, settings: Config, tmp_path: Path
) -> None:
    address = settings.advertise_addr
    description = NodeDescription(
        hostname="host9", resources=NodeResources(10**9, 2**30), protocol=PROTOCOL
    )
    joining = Joining(pki(brief).token, (address,), description, "192.0.2.99")
    identity = await agents_identity.join(tmp_path / "identity.json", joining)
    first = identity.certificate
    agent = holder(first.credentials)
    agent.addr = "192.0.2.99"
    renewal = Renewal(identity, lambda: address)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(agent.converse(address)), group.create_task(renewal.run())]
        await until(lambda: agent.full_sets == 1, "the session stands")
        (session,) = brief.current().sessions
        await until(lambda: present() > first.expires_at, "its certificate has expired")
        assert identity.certificate.expires_at > first.expires_at
        beats = agent.beats
        await until(lambda: agent.beats > beats + 3, "the session goes on")
        assert brief.current().sessions.holds(session)
        assert await _refusal(holder(first.credentials).converse(address)) is UNAVAILABLE
        assert brief.current().sessions.holds(session)
        node = brief.current().state.nodes[identity.node_id]
        newest = ca.parse(identity.certificate.chain.encode())
        assert newest.key_digest == node.certificate.key_digest
        successor = holder(identity.certificate.credentials)
        successor.addr = agent.addr
        tasks.append(group.create_task(successor.converse(address)))
        await until(lambda: successor.full_sets == 1, "the next session shows the new one")
        assert not brief.current().sessions.holds(session)
        for task in tasks:
            task.cancel()


async def test_a_host_that_was_offline_proves_its_key(brief: Controller, settings: Config) -> None:
    address = settings.advertise_addr
    agent = FakeAgent("host1")
    await agent.join(address, pki(brief).token)
    former = agent.credentials
    assert former
    (node,) = brief.current().state.nodes.values()
    await until(lambda: present() > node.certificate.expires_at, "its certificate has expired")
    assert await _refusal(_renew(agent, address)) is UNAVAILABLE
    key = ca.new_key()
    csr = ca.csr_pem(key)
    signature = signed(former.key_pem, csr)
    guest = holder(pki(brief).guest())
    renewed = guest.dial(address)
    request = dispatcher_pb2.RenewCertificateRequest(
        csr=csr, former_certificate=former.cert_pem, proof=signature
    )
    async with renewed as connection:
        stub: Any = dispatcher_pb2_grpc.DispatcherStub(connection)
        wrong = dispatcher_pb2.RenewCertificateRequest()
        wrong.CopyFrom(request)
        wrong.proof = signed(ca.key_pem(ca.new_key()), csr)
        assert await _refusal(stub.RenewCertificate(wrong)) is DENIED
        await stub.RenewCertificate(request)  # its answer is lost
        agent.take(await stub.RenewCertificate(request), ca.key_pem(key))
        other = ca.csr_pem(ca.new_key())
        replayed = dispatcher_pb2.RenewCertificateRequest(
            csr=other,
            former_certificate=former.cert_pem,
            proof=signed(former.key_pem, other),
        )
        assert await _refusal(stub.RenewCertificate(replayed)) is DENIED, "the key is a former one"
    session = asyncio.create_task(agent.converse(address))
    await until(lambda: agent.full_sets == 1, "its session stands")
    assert nodes(brief) == [node.id]
    session.cancel()


# Removal


async def test_a_removed_node_ends_at_once_and_its_certificate_is_worth_nothing(
    controller: Controller, settings: Config
) -> None:
    address = settings.advertise_addr
    agent, other = FakeAgent("host1"), FakeAgent("host2")
    for one in (agent, other):
        await one.join(address, pki(controller).token)
    sessions = [asyncio.create_task(one.converse(address)) for one in (agent, other)]
    await until(lambda: agent.full_sets and other.full_sets, "both have sessions")
    reading, tunnel = await _tunnel(controller, agent, address)
    async with user(settings) as stub:
        request = control_pb2.RemoveNodeRequest(ref=agent.node_id, force=True)
        await stub.RemoveNode(request, timeout=60)
    await until(sessions[0].done, "its session has ended")
    await until(tunnel.done, "its tunnel has ended")
    with pytest.raises(PyswarmError):
        await reading
    for what in (agent.converse(address), _renew(agent, address)):
        assert await _refusal(what) in REMOVED
    assert await _dial_back(agent, address, "t" * 25) in REMOVED
    assert [session.node_id for session in controller.current().sessions] == [other.node_id]
    sessions[1].cancel()


async def _tunnel(
    controller: Controller, agent: FakeAgent, address: str
) -> tuple["asyncio.Task[None]", "asyncio.Task[grpc.StatusCode]"]:
    """A tunnel of the agent that stays open: its reader, and the agent's call."""

    async def read() -> None:
        tunnels, node_id = controller.current().tunnels, NodeId(agent.node_id)
        async with tunnels.open(node_id, IMAGE_LIST, ImageList()) as answers:
            opened.set()
            await answers.read()

    opened = asyncio.Event()
    reading = asyncio.create_task(read())
    await until(lambda: agent.messages[-1].HasField("open_tunnel"), "a tunnel is requested")
    tunnel_id = agent.messages[-1].open_tunnel.tunnel_id
    tunnel = asyncio.create_task(_dial_back(agent, address, tunnel_id))
    await opened.wait()
    return reading, tunnel


async def test_a_worker_that_claims_the_address_of_a_controller_stays_one(
    controller: Controller, settings: Config
) -> None:
    address, token = settings.advertise_addr, pki(controller).token
    beside, impostor = FakeAgent("host1"), FakeAgent("host2")
    for agent in (beside, impostor):
        await agent.join(address, token)
    beside.addr, impostor.addr = "192.0.2.252", "192.0.2.253"
    controllers = (f"{beside.addr}:2377", f"{impostor.addr}:2377")
    loop = controller.current()
    loop.sessions.controllers = controllers
    sessions = [asyncio.create_task(agent.converse(address)) for agent in (beside, impostor)]
    await until(lambda: beside.full_sets and impostor.full_sets, "both have sessions")
    loop.controllers_changed(controllers)
    roles = {node.status.addr: node.spec.role for node in loop.state.nodes.values()}
    # Both call over loopback, on which the agent beside the leader may call.
    assert roles == {beside.addr: "manager", impostor.addr: "worker"}
    for session in sessions:
        session.cancel()


async def test_a_former_key_is_worth_nothing_after_a_rejoin_with_another(
    controller: Controller, settings: Config
) -> None:
    address, token = settings.advertise_addr, pki(controller).token
    agent = FakeAgent("host1")
    await agent.join(address, token)
    former = holder(agent.credentials)

    def down(state: State, now: Instant, ids: object) -> tuple[Writes, None]:
        node = state.nodes[NodeId(agent.node_id)]
        status = replace(node.status, state=NodeState.DOWN)
        return Writes(objects=(replace(node, status=status),)), None

    await controller.current().submit(down, CONTROLLER)
    key = ca.new_key()
    request = dispatcher_pb2.RenewCertificateRequest(
        csr=ca.csr_pem(key), token=token, node_id=agent.node_id
    )
    async with holder(pki(controller).guest()).dial(address) as connection:
        stub: Any = dispatcher_pb2_grpc.DispatcherStub(connection)
        agent.take(await stub.RenewCertificate(request), ca.key_pem(key))
    async with asyncio.TaskGroup() as group:
        session = group.create_task(agent.converse(address))
        await until(lambda: agent.full_sets == 1, "its session stands")
        (open_session,) = controller.current().sessions
        async with former.dial(address) as connection:
            stub = dispatcher_pb2_grpc.DispatcherStub(connection)
            assert await _refusal(stub.Leave(dispatcher_pb2.LeaveRequest())) is DENIED
        assert await _refusal(former.converse(address)) is DENIED
        assert await _refusal(_renew(former, address)) is DENIED
        assert await _dial_back(former, address, "t" * 25) is DENIED
        assert controller.current().sessions.holds(open_session)
        session.cancel()


async def test_an_agent_with_the_key_before_the_newest_only_repeats_its_request(
    controller: Controller, settings: Config
) -> None:
    address = settings.advertise_addr
    agent = FakeAgent("host1")
    await agent.join(address, pki(controller).token)
    key = ca.new_key()
    request = dispatcher_pb2.RenewCertificateRequest(csr=ca.csr_pem(key))
    async with agent.dial(address) as connection:
        stub: Any = dispatcher_pb2_grpc.DispatcherStub(connection)
        await stub.RenewCertificate(request)  # its answer is lost
        assert await _refusal(_renew(agent, address)) is DENIED
        (node,) = controller.current().state.nodes.values()
        assert node.certificate.key_digest == ca.key_digest(key.public_key())
        reply = await stub.RenewCertificate(request)
    session = asyncio.create_task(agent.converse(address))
    await until(lambda: agent.full_sets == 1, "a session with the key before")
    session.cancel()
    agent.take(reply, ca.key_pem(key))
    await _renew(agent, address)


# One node in the place of another


async def test_another_node_cannot_take_a_tunnel(controller: Controller, settings: Config) -> None:
    address, token = settings.advertise_addr, pki(controller).token
    async with agents_of(address, token, 2) as (agent, thief):
        await until(lambda: agent.full_sets and thief.full_sets, "both have sessions")
        answers = []

        async def ask() -> None:
            tunnels, node_id = controller.current().tunnels, NodeId(agent.node_id)
            async with tunnels.open(node_id, IMAGE_LIST, ImageList()) as tunnel:
                answers.append(await tunnel.read())

        asking = asyncio.create_task(ask())
        await until(lambda: agent.messages[-1].HasField("open_tunnel"), "a tunnel is requested")
        tunnel_id = agent.messages[-1].open_tunnel.tunnel_id
        assert await _dial_back(thief, address, tunnel_id) is grpc.StatusCode.NOT_FOUND
        for unit in (Unit.GUEST, Unit.USER, Unit.MANAGER):
            other = holder(pki(controller).issued(unit, agent.node_id))
            assert await _dial_back(other, address, tunnel_id) is DENIED
        assert not answers
        async with agent.dial(address) as connection:
            call: Any = dispatcher_pb2_grpc.DispatcherStub(connection).Tunnel(None)
            await call.write(Frame(tunnel_id=tunnel_id))
            await call.write(Frame(end=dispatcher_pb2.TunnelEnd()))
            await asking
        assert answers == [None]


async def test_a_hello_speaks_for_the_node_of_the_certificate_alone(
    controller: Controller, settings: Config
) -> None:
    address, token = settings.advertise_addr, pki(controller).token
    async with agents_of(address, token, 1) as (agent,):
        await until(lambda: agent.full_sets, "it has a session")
        (session,) = controller.current().sessions
        thief = FakeAgent("host2")
        await thief.join(address, token)
        # Field 1 was the node's id in older protocols.
        named = b"\x0a" + bytes([len(agent.node_id)]) + agent.node_id.encode()
        honest = thief.hello()
        thief.hello = lambda: dispatcher_pb2.Hello.FromString(  # type: ignore[method-assign]
            named + honest.SerializeToString()
        )
        conversing = asyncio.create_task(thief.converse(address))
        await until(lambda: thief.full_sets, "it has a session too")
        assert controller.current().sessions.holds(session)
        assert {one.node_id for one in controller.current().sessions} == set(nodes(controller))
        beats = agent.beats
        await until(lambda: agent.beats > beats + 2, "the first session goes on")
        conversing.cancel()
        # Nor does a hello with the other's name and address get in.
        impostor = holder(thief.credentials)
        impostor.hostname, impostor.addr = agent.hostname, agent.addr
        assert await _refusal(impostor.converse(address)) is grpc.StatusCode.ALREADY_EXISTS


# Who is no agent of the fleet

DENIED, UNAVAILABLE = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAVAILABLE


def _foreign(fleet: Pki, node_id: str) -> ClientCredentials:
    """A certificate of a CA that differs from the fleet's only by its key."""
    foreign = another(fleet.cluster.id)
    return replace(foreign.node(node_id), ca_pem=fleet.roots.encode())


def _by_guest(fleet: Pki, node_id: str) -> ClientCredentials:
    """A certificate that the guest's public key issued, and the guest certificate above it."""
    guest = fleet.guest()
    authority = CertificateAuthority(
        certificate=guest.cert_pem.decode(), key=key_der(guest.key_pem)
    )
    forged = Pki(replace(fleet.cluster, ca=authority)).node(node_id)
    return replace(forged, ca_pem=fleet.roots.encode(), cert_pem=forged.cert_pem + guest.cert_pem)


STRANGERS: list[tuple[str, Callable[[Pki, str], ClientCredentials], grpc.StatusCode]] = [
    ("guest", lambda fleet, _: fleet.guest(), DENIED),
    ("guest with its id", lambda fleet, node: fleet.issued(Unit.GUEST, node), DENIED),
    ("user", lambda fleet, node: fleet.user(node), DENIED),
    ("controller", lambda fleet, node: fleet.manager(node), DENIED),
    ("expired", lambda fleet, node: fleet.expired(Unit.WORKER, node), UNAVAILABLE),
    ("other CA", _foreign, UNAVAILABLE),
    ("issued by the guest", _by_guest, UNAVAILABLE),
]


@pytest.mark.parametrize(
    ("make", "code"), [row[1:] for row in STRANGERS], ids=[row[0] for row in STRANGERS]
)
async def test_no_other_certificate_acts_for_a_node(
    controller: Controller,
    settings: Config,
    make: Callable[[Pki, str], ClientCredentials],
    code: grpc.StatusCode,
) -> None:
    address = settings.advertise_addr
    agent = FakeAgent("host1")
    await agent.join(address, pki(controller).token)
    stranger = holder(make(pki(controller), agent.node_id))
    assert await _refusal(stranger.converse(address)) is code
    assert await _refusal(_renew(stranger, address)) is code
    assert await _dial_back(stranger, address, "t" * 25) is code
    assert not len(controller.current().sessions)
    (node,) = controller.current().state.nodes.values()
    assert agent.credentials
    assert node.certificate.key_digest == ca.parse(agent.credentials.cert_pem).key_digest


async def test_a_caller_without_tls_or_certificate_is_not_heard(
    controller: Controller, settings: Config
) -> None:
    async with grpc.aio.insecure_channel(settings.advertise_addr) as plain:
        stub: Any = dispatcher_pb2_grpc.DispatcherStub(plain)
        assert await _refusal(stub.Join(dispatcher_pb2.JoinRequest(), timeout=60)) is UNAVAILABLE
    tls = grpc.ssl_channel_credentials(pki(controller).roots.encode())
    named = (("grpc.ssl_target_name_override", "controller.pyswarm"),)
    async with grpc.aio.secure_channel(settings.advertise_addr, tls, options=named) as nobody:
        stub = dispatcher_pb2_grpc.DispatcherStub(nobody)
        assert await _refusal(stub.Join(dispatcher_pb2.JoinRequest(), timeout=60)) is UNAVAILABLE


async def test_the_socket_is_roots_alone_and_no_agents(
    controller: Controller, settings: Config, tmp_path: Path
) -> None:
    mode = (tmp_path / "one.sock").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    async with channel(settings.listen[0], None, aio=True) as connection:
        call: Any = dispatcher_pb2_grpc.DispatcherStub(connection).Session(None)
        with suppress(*ENDED):  # the call may have ended before
            await send(call, HELLO)
        assert await call.code() is DENIED


async def test_a_host_sends_nothing_to_a_controller_with_another_ca(
    controller: Controller, settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        pytest.fail("a token was sent")

    monkeypatch.setattr("controller.grpc.dispatcher.Dispatcher.Join", never)
    with pytest.raises(PermissionDenied, match="does not have this fleet's CA"):
        await FakeAgent("host1").join(settings.advertise_addr, another().token)
    assert nodes(controller) == []
