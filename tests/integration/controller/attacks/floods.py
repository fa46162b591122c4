"""What a hostile host without an identity does to a controller, on as large a scale as is asked."""

import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import NamedTuple

import grpc
from grpc_health.v1 import health_pb2

from pyswarm_core.aio.credentials import channel
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.limits import TUNNEL_FRAME_BYTES
from tests.integration.controller.attacks.caller import Calls, calling
from tests.integration.controller.attacks.raw import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    HEADERS,
    PING,
    RESET,
    SETTINGS,
    Http2,
    context,
    frame,
    header_block,
)
from tests.integration.controller.attacks.target import Target

JOIN = "/pyswarm.v1.Dispatcher/Join"
CHECK = "/grpc.health.v1.Health/Check"
AT_ONCE = 16
QUIET_S = 1.0
BATCH = 100


class Scale(NamedTuple):
    """How much of each flood."""

    seconds: float
    """For so long, and until the first has been sent."""
    connections: int
    streams: int


class Outcome(NamedTuple):
    """What one flood did."""

    calls: Calls
    """Of another caller meanwhile."""
    before: int
    most: int
    """Bytes of the controller's memory before and at most."""
    told: str


Flood = Callable[[Target, Scale], str]
"""Returns how much it was."""


def suffer(target: Target, flood: Flood, scale: Scale) -> Outcome:
    """Run one flood while another caller calls."""
    before = target.memory()
    target.forget_most_memory()
    with calling(target) as calls:
        told = flood(target, scale)
    return Outcome(calls, before, target.most_memory(), told)


def silence(target: Target, scale: Scale) -> str:
    """Connections over which nothing is sent, opened again when they are closed."""
    with ExitStack() as held:
        for _ in range(scale.connections):
            held.enter_context(socket.create_connection(target.host_port, 30))
        time.sleep(scale.seconds)
    return f"{scale.connections} connections without a handshake"


def connections(target: Target, scale: Scale) -> str:
    """Connections of guests, without a call."""
    tls = context(target.pki.guest())

    def connect(_: int) -> Http2 | None:
        with suppress(OSError):
            found = Http2(target.host_port, tls)
            found.greet()
            return found
        return None

    began = target.memory()
    with ExitStack() as held, ThreadPoolExecutor(AT_ONCE) as pool:
        opened = [one for one in pool.map(connect, range(scale.connections)) if one]
        for one in opened:
            held.enter_context(one)
        each = (target.memory() - began) / max(1, len(opened))
        time.sleep(scale.seconds)
    return f"{len(opened)} connections, {each / 1024:.0f} KiB each"


def handshakes(target: Target, scale: Scale) -> str:
    """Handshakes, one after the other from each of several threads."""
    tls = context(target.pki.guest())

    def shake(_: int) -> int:
        count = 0
        while not count or time.monotonic() < ends_at:
            with suppress(OSError), Http2(target.host_port, tls):
                count += 1
        return count

    ends_at = time.monotonic() + scale.seconds
    with ThreadPoolExecutor(AT_ONCE) as pool:
        made = sum(pool.map(shake, range(AT_ONCE)))
    return f"{made} handshakes"


def unread_requests(target: Target, scale: Scale) -> str:
    """Requests that arrive but for their last byte."""
    with Http2(target.host_port, context(target.pki.guest())) as connection:
        connection.greet()
        streams = range(1, 2 * scale.streams, 2)
        for stream in streams:
            connection.call(stream, JOIN)
        sent = connection.fill(streams, TUNNEL_FRAME_BYTES, QUIET_S)
    return f"{scale.streams} requests of {TUNNEL_FRAME_BYTES >> 20} MiB, {sent >> 20} MiB accepted"


def resets(target: Target, scale: Scale) -> str:
    """Calls that are reset as soon as they are made (CVE-2023-44487)."""

    def batch(first: int) -> bytes:
        return b"".join(
            frame(HEADERS, END_HEADERS, stream, block) + frame(RESET, 0, stream, b"\0\0\0\x08")
            for stream in range(first, first + 2 * BATCH, 2)
        )

    block = header_block(JOIN)
    return f"{BATCH * _write(target, scale, batch, 2 * BATCH)} calls that were reset"


def pings(target: Target, scale: Scale) -> str:
    """Pings without a call."""
    sent = _write(target, scale, lambda _: frame(PING, 0, 0, bytes(8)) * BATCH, 0)
    return f"{BATCH * sent} pings"


def settings(target: Target, scale: Scale) -> str:
    """Settings, each of which has to be acknowledged (CVE-2019-9515)."""
    one = frame(SETTINGS, 0, 0, b"\0\x03\0\0\0\x64")
    return f"{BATCH * _write(target, scale, lambda _: one * BATCH, 0)} settings"


def continuations(target: Target, scale: Scale) -> str:
    """Headers that do not end (CVE-2024-27316)."""
    part = b"\0\x01x\x7f\x81\x7f" + b"y" * 16_384

    def batch(first: int) -> bytes:
        begin = frame(HEADERS, 0, first, header_block(JOIN))
        return begin + frame(CONTINUATION, 0, first, part[:16_384]) * BATCH

    return f"{16 * BATCH * _write(target, scale, batch, 2)} KiB of headers"


def _write(target: Target, scale: Scale, batch: Callable[[int], bytes], step: int) -> int:
    """Write batches as quickly as the server reads them, on a new connection when it closes one.
    Nothing is read: acknowledgements pile up at the server. Returns the number of batches.
    """
    tls, count = context(target.pki.guest()), 0
    ends_at = time.monotonic() + scale.seconds
    while not count or time.monotonic() < ends_at:
        with suppress(OSError), Http2(target.host_port, tls) as connection:
            connection.greet()
            connection.socket.sendall(frame(SETTINGS, ACK, 0))
            connection.socket.settimeout(QUIET_S)
            stream = 1
            while not count or time.monotonic() < ends_at:
                connection.socket.sendall(batch(stream))
                stream += step
                count += 1
    return count


def checks(target: Target, scale: Scale) -> str:
    """Health checks of a guest, as many at once as a connection may have."""
    call = health_pb2.HealthCheckRequest().SerializeToString()
    return f"{_calls(target, scale, CHECK, call)} health checks"


def guesses(target: Target, scale: Scale) -> str:
    """Joins with wrong tokens."""
    call = dispatcher_pb2.JoinRequest(token=target.pki.token[:-1] + "!").SerializeToString()
    return f"{_calls(target, scale, JOIN, call)} joins with a wrong token"


def _calls(target: Target, scale: Scale, path: str, request: bytes) -> int:
    count = 0
    ends_at = time.monotonic() + scale.seconds
    with channel(target.address, target.pki.guest(), aio=False) as connection:
        method = connection.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
        while not count or time.monotonic() < ends_at:
            made = [method.future(request, timeout=60) for _ in range(scale.streams)]
            count += sum(one.code() is not grpc.StatusCode.DEADLINE_EXCEEDED for one in made)
    return count


def bombs(target: Target, scale: Scale) -> str:
    """Requests that are small until they are decompressed."""
    size = 16 * TUNNEL_FRAME_BYTES
    unlimited = (("grpc.max_send_message_length", -1),)
    count = 0
    with channel(target.address, target.pki.guest(), aio=False, options=unlimited) as connection:
        method = connection.unary_unary(
            JOIN,
            request_serializer=bytes,
            response_deserializer=dispatcher_pb2.JoinReply.FromString,
        )
        ends_at = time.monotonic() + scale.seconds
        while not count or time.monotonic() < ends_at:
            made = method.future(bytes(size), timeout=60, compression=grpc.Compression.Gzip)
            count += made.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return f"{count} requests of {size >> 20} MiB in {size >> 20} KiB"


FLOODS: Mapping[str, Flood] = {
    "silent connections": silence,
    "idle connections": connections,
    "handshakes": handshakes,
    "unread requests": unread_requests,
    "reset calls": resets,
    "pings": pings,
    "settings": settings,
    "endless headers": continuations,
    "health checks": checks,
    "wrong tokens": guesses,
    "compressed requests": bombs,
}
