"""Each limit on connections has an effect on a real server, before a caller is known."""

import asyncio
import resource
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from controller.grpc.health import Health
from controller.grpc.listening import FILES_KEPT, server_options
from pyswarm_core.aio.channel import SERVER_OPTIONS
from pyswarm_core.limits import (
    CONNECTION_IDLE_MAX,
    CONNECTIONS_MAX,
    HANDSHAKE_MAX,
    METADATA_BYTES_MAX,
    STREAMS_PER_CALLER,
    STREAMS_PER_CONNECTION,
)
from tests.fixtures.identity import FLEET
from tests.integration.controller.attacks.raw import (
    ACK,
    DATA,
    HEADERS,
    PING,
    SETTINGS,
    WINDOW,
    Http2,
    context,
    frame,
)

WAIT_S = 50.0
"""Less than CONNECTION_IDLE_MAX."""
ACCEPTED = 5
WATCH = "/grpc.health.v1.Health/Watch"
Address = tuple[str, int]


@asynccontextmanager
async def serving(folder: Path, **changed: int) -> AsyncIterator[Address]:
    """A server with the options of a controller's, but for those that a test cannot wait for."""
    options = dict(SERVER_OPTIONS) | {"grpc.max_allowed_incoming_connections": CONNECTIONS_MAX}
    for name, value in changed.items():
        assert f"grpc.{name}" in options
        options[f"grpc.{name}"] = value
    server = grpc.aio.server(options=tuple(options.items()))
    Health().add_to(server)
    port = server.add_secure_port("127.0.0.1:0", FLEET.server())
    server.add_insecure_port(f"unix:{folder}/sock")
    await server.start()
    try:
        yield "127.0.0.1", port
    finally:
        await server.stop(None)


def _guest() -> ssl.SSLContext:
    return context(FLEET.guest())


def _until_closed(connection: socket.socket) -> None:
    """Return when the server closes it; time out otherwise."""
    connection.settimeout(WAIT_S)
    with suppress(ConnectionResetError, ssl.SSLEOFError), connection:
        while connection.recv(65_536):
            pass


def test_the_limits_are_those_that_are_documented() -> None:
    options = dict(SERVER_OPTIONS)
    assert options["grpc.server_handshake_timeout_ms"] == HANDSHAKE_MAX // 10**6 == 5_000
    assert options["grpc.max_connection_idle_ms"] == CONNECTION_IDLE_MAX // 10**6 == 60_000
    assert options["grpc.max_metadata_size"] == METADATA_BYTES_MAX == 8 * 1024
    assert options["grpc.max_concurrent_streams"] == STREAMS_PER_CONNECTION == 1_024
    assert CONNECTIONS_MAX == 30_000
    assert STREAMS_PER_CONNECTION > STREAMS_PER_CALLER + 1  # its error is seen first


@pytest.mark.parametrize(
    ("files", "accepted"),
    [
        (resource.RLIM_INFINITY, CONNECTIONS_MAX),
        (1_048_576, CONNECTIONS_MAX),
        (4_096, 4_096 - FILES_KEPT),
        (256, 128),
    ],
)
def test_connections_leave_files_for_the_store(
    monkeypatch: pytest.MonkeyPatch, files: int, accepted: int
) -> None:
    raised = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, files))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: raised.append(pair))
    assert dict(server_options())["grpc.max_allowed_incoming_connections"] == accepted
    assert raised == [(files, files)]


async def test_half_open_handshakes_end(tmp_path: Path) -> None:
    async with serving(tmp_path, server_handshake_timeout_ms=500) as address:

        def silent() -> None:
            _until_closed(socket.create_connection(address))

        def half() -> None:
            connection = socket.create_connection(address)
            connection.sendall(b"\x16\x03\x01\x02\x00\x01")
            _until_closed(connection)

        def without_http() -> None:
            _until_closed(Http2(address, _guest()).socket)

        await asyncio.gather(*map(asyncio.to_thread, (silent, half, without_http)))


async def test_a_connection_without_a_call_ends(tmp_path: Path) -> None:
    async with serving(tmp_path, max_connection_idle_ms=1_000) as address:

        def idle() -> None:
            connection = Http2(address, _guest())
            connection.greet()
            _until_closed(connection.socket)

        await asyncio.to_thread(idle)


async def test_a_call_whose_peer_answers_no_ping_ends(tmp_path: Path) -> None:
    timeouts = dict.fromkeys(("keepalive_timeout_ms", "http2.ping_timeout_ms"), 500)
    async with serving(tmp_path, keepalive_time_ms=1_000, **timeouts) as address:

        def mute() -> None:
            with Http2(address, _guest()) as connection:
                connection.greet()
                connection.call(1, WATCH)
                _until_closed(connection.socket)

        await asyncio.to_thread(mute)


async def test_connections_are_bounded_and_root_gets_in(tmp_path: Path) -> None:
    async with serving(tmp_path, max_allowed_incoming_connections=ACCEPTED) as address:

        def connect() -> list[bool]:
            opened = [socket.create_connection(address, WAIT_S) for _ in range(ACCEPTED)]
            beyond = socket.create_connection(address, WAIT_S)
            closed = not beyond.recv(1)
            for one in (*opened, beyond):
                one.close()
            return [closed]

        assert await asyncio.to_thread(connect) == [True]
        held = await asyncio.to_thread(
            lambda: [socket.create_connection(address, WAIT_S) for _ in range(2 * ACCEPTED)]
        )
        async with grpc.aio.insecure_channel(f"unix:{tmp_path}/sock") as root:
            stub = health_pb2_grpc.HealthStub(root)
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=WAIT_S)
        for one in held:
            one.close()


async def test_calls_of_a_connection_are_bounded(tmp_path: Path) -> None:
    async with serving(tmp_path) as address:

        def announced() -> int:
            with Http2(address, _guest()) as connection:
                connection.greet()
                kind, _, _, payload = next(connection.frames())
                assert kind == SETTINGS
                values = dict(struct.iter_unpack(">HI", payload))
                return int(values[3])

        assert await asyncio.to_thread(announced) == STREAMS_PER_CONNECTION


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        frame(HEADERS, 4, 1, b"\xff" * 1_000),
        frame(9, 4, 1, b"x"),
        b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + b"x" * 1_000,
        frame(SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff"),
    ],
    ids=[
        "HTTP/1",
        "headers that cannot be decoded",
        "continuation of nothing",
        "a frame of 16 MiB",
        "settings out of range",
    ],
)
async def test_malformed_frames_end_their_connection_alone(tmp_path: Path, sent: bytes) -> None:
    """At once: a connection that only has no call lives longer than this test waits."""
    assert CONNECTION_IDLE_MAX // 10**9 > WAIT_S
    async with serving(tmp_path) as address:

        def send() -> None:
            connection = Http2(address, _guest())
            connection.greet()
            with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                connection.socket.sendall(sent)
            _until_closed(connection.socket)

        await asyncio.to_thread(send)
        assert await _check(address)


@pytest.mark.parametrize(
    "sent",
    [
        frame(DATA, 0, 0) * 10_000,
        frame(HEADERS, 0, 0, b"\x82"),
        frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff"),
    ],
    ids=["data without a stream", "headers without a stream", "window overflow"],
)
async def test_frames_that_break_no_other_are_ignored(tmp_path: Path, sent: bytes) -> None:
    """gRPC goes on with the connection, which ends once it is idle as any other."""
    async with serving(tmp_path) as address:

        def pinged() -> bytes:
            with Http2(address, _guest()) as connection:
                connection.greet()
                connection.socket.sendall(sent + frame(PING, 0, 0, b"12345678"))
                pings = (one for one in connection.frames() if one[:2] == (PING, ACK))
                return next(pings)[3]

        assert await asyncio.to_thread(pinged) == b"12345678"
        assert await _check(address)


async def _check(address: Address) -> bool:
    guest = FLEET.guest()
    credentials = grpc.ssl_channel_credentials(guest.ca_pem, guest.key_pem, guest.cert_pem)
    named = (("grpc.ssl_target_name_override", "controller.pyswarm"),)
    target = f"{address[0]}:{address[1]}"
    async with grpc.aio.secure_channel(target, credentials, options=named) as connection:
        stub = health_pb2_grpc.HealthStub(connection)
        reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=WAIT_S)
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def _tls_1_2(found: ssl.SSLContext) -> ssl.SSLContext:
    found.maximum_version = ssl.TLSVersion.TLSv1_2
    return found


async def test_tls_1_2_ends_in_the_handshake(tmp_path: Path) -> None:
    connect: Callable[[Address], Http2] = lambda address: Http2(  # noqa: E731
        address, _tls_1_2(_guest())
    )
    async with serving(tmp_path) as address:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await asyncio.to_thread(connect, address)
