"""Who answers in a controller's place gets no byte of a secret; who repeats a join gets nothing."""

import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from controller.app import Controller
from controller.config import Config
from controller.identity import ca
from controller.identity.cluster import server_identity
from controller.store.memory import MemoryKv
from controller.store.memory_store import MemoryStore
from pyswarm_core.aio.credentials import channel, guest
from pyswarm_core.aio.handshake import fetch_chain
from pyswarm_core.aio.system import SteadyClock
from pyswarm_core.api.v1 import control_pb2, control_pb2_grpc, dispatcher_pb2, dispatcher_pb2_grpc
from pyswarm_core.errors import PermissionDenied
from pyswarm_core.identity.tokens import UserToken, secret_of
from tests.fixtures.identity import FLEET, Pki, another, present, signed
from tests.integration.controller.fleet import (
    WAIT_S,
    FakeAgent,
    config,
    leading,
    serving,
    stranger,
    user,
)

SECRET = secret_of(4711)
TOKEN = str(UserToken(FLEET.digest, "t" * 25, SECRET))
DENIED = grpc.StatusCode.PERMISSION_DENIED


class Recorder:
    """A TLS server with this chain and key, which keeps what it receives first."""

    def __init__(self, chain: bytes, key: bytes, folder: Path) -> None:
        self.received: list[bytes] = []
        """By connection, decrypted."""
        (folder / "chain").write_bytes(chain)
        (folder / "key").write_bytes(key)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(folder / "chain", folder / "key")
        self._tls.set_alpn_protocols(["h2"])

    @contextmanager
    def listening(self) -> Iterator[str]:
        """HOST:PORT."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=self._accept, args=(server,))
            thread.start()
            try:
                yield f"127.0.0.1:{server.getsockname()[1]}"
            finally:
                server.shutdown(socket.SHUT_RDWR)
                thread.join()

    def _accept(self, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                self._record(connection)

    def _record(self, connection: socket.socket) -> None:
        """Closes the connection once it has received something, which ends the client's call."""
        connection.settimeout(WAIT_S)
        received = b""
        with suppress(OSError), self._tls.wrap_socket(connection, server_side=True) as tls:
            received = tls.recv(65_536)
        self.received.append(received)


def _shown(leaf: bytes, of: Pki = FLEET) -> bytes:
    """What a controller sends, but for its certificate."""
    return leaf + of.cluster.ca.certificate.encode() + of.guest().cert_pem


def _with_token(address: str) -> grpc.StatusCode:
    """How a client with a token fares."""
    trust = fetch_chain(address, FLEET.digest)
    with channel(address, guest(trust, TOKEN), aio=False) as connection:
        stub = control_pb2_grpc.ControlStub(connection)
        with pytest.raises(grpc.RpcError) as refused:
            stub.GetInfo(control_pb2.GetInfoRequest(), timeout=WAIT_S)
        code: grpc.StatusCode = refused.value.code()
        return code


def test_a_controller_with_another_digest_receives_nothing(tmp_path: Path) -> None:
    other = another(FLEET.cluster.id)
    identity = server_identity(other.cluster, "c1", present())
    recorder = Recorder(identity.chain, identity.key, tmp_path)
    with recorder.listening() as address, pytest.raises(PermissionDenied, match="does not have"):
        _with_token(address)
    assert recorder.received == [b""]


IMPOSTORS: dict[str, Callable[[], Any]] = {
    "a user": lambda: FLEET.user("u" * 25),
    "a node": lambda: FLEET.node("n" * 25),
    "a guest": FLEET.guest,
}


@pytest.mark.parametrize("make", IMPOSTORS.values(), ids=IMPOSTORS)
def test_a_server_with_the_certificate_of_a_caller_receives_nothing(
    tmp_path: Path, make: Callable[[], Any]
) -> None:
    """It is of the fleet's CA, and the root with the right digest is public."""
    own = make()
    recorder = Recorder(_shown(own.cert_pem), own.key_pem, tmp_path)
    with recorder.listening() as address:
        assert _with_token(address) is grpc.StatusCode.UNAVAILABLE
    assert set(recorder.received) == {b""}


def test_a_server_with_a_controllers_certificate_receives_calls(tmp_path: Path) -> None:
    """Otherwise the tests above would show nothing."""
    identity = server_identity(FLEET.cluster, "c1", present())
    recorder = Recorder(identity.chain, identity.key, tmp_path)
    with recorder.listening() as address:
        _with_token(address)
    assert any(data.startswith(b"PRI * HTTP/2.0") for data in recorder.received)


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    return config(tmp_path)


@pytest.fixture
async def controller(settings: Config) -> AsyncIterator[Controller]:
    async with serving(settings, MemoryStore(MemoryKv(), SteadyClock())) as found:
        await leading(found)
        yield found


async def _join(address: str, request: dispatcher_pb2.JoinRequest) -> grpc.StatusCode:
    async with channel(address, await stranger(address, request.token), aio=True) as connection:
        stub: Any = dispatcher_pb2_grpc.DispatcherStub(connection)
        call = stub.Join(request, timeout=60)
        code: grpc.StatusCode = await call.code()
        return code


async def test_a_replayed_join_makes_no_node_and_a_rotated_token_gets_no_certificate(
    controller: Controller, settings: Config
) -> None:
    address, state = settings.advertise_addr, controller.current().state
    agent = FakeAgent("host1")
    request = dispatcher_pb2.JoinRequest(
        token=state.cluster.worker_token,
        description=agent.description,
        addr=agent.addr,
        availability="active",
        csr=ca.csr_pem(ca.new_key()),
    )
    assert await _join(address, request) is grpc.StatusCode.OK
    (node,) = state.nodes.values()
    # The host may have lost the answer. A thief gets a certificate for a key that it does not have.
    assert await _join(address, request) is grpc.StatusCode.OK
    other = dispatcher_pb2.JoinRequest()
    other.CopyFrom(request)
    other.csr = ca.csr_pem(ca.new_key())
    assert await _join(address, other) is grpc.StatusCode.ALREADY_EXISTS
    assert list(controller.current().state.nodes.values()) == [node]
    async with user(settings) as api:
        await api.RemoveNode(control_pb2.RemoveNodeRequest(ref=node.id, force=True))
        await api.RotateJoinToken(control_pb2.RotateJoinTokenRequest())
    assert await _join(address, request) is DENIED
    rejoin = dispatcher_pb2.RenewCertificateRequest(
        token=request.token, node_id=node.id, csr=request.csr
    )
    async with channel(address, await stranger(address, request.token), aio=True) as connection:
        stub: Any = dispatcher_pb2_grpc.DispatcherStub(connection)
        assert await stub.RenewCertificate(rejoin, timeout=60).code() is DENIED
    assert not controller.current().state.nodes


async def test_a_token_that_is_rotated_while_a_rejoin_waits_is_refused(
    controller: Controller, settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was proven is compared with the state that is changed."""
    address, state = settings.advertise_addr, controller.current().state
    agent = FakeAgent("host1")
    await agent.join(address, state.cluster.worker_token)
    token = state.cluster.worker_token

    async def rotated(_: object) -> None:
        async with user(settings) as api:
            await api.RotateJoinToken(control_pb2.RotateJoinTokenRequest())

    assert agent.credentials
    key = ca.csr_pem(ca.new_key())
    rejoin = dispatcher_pb2.RenewCertificateRequest(
        token=token,
        node_id=agent.node_id,
        csr=key,
        former_certificate=agent.credentials.cert_pem,
        proof=signed(agent.credentials.key_pem, key),
    )
    monkeypatch.setattr("controller.grpc.dispatcher.RateLimiter.__aenter__", rotated)
    async with channel(address, Pki(state.cluster).guest(), aio=True) as connection:
        stub: Any = dispatcher_pb2_grpc.DispatcherStub(connection)
        assert await stub.RenewCertificate(rejoin, timeout=60).code() is DENIED
