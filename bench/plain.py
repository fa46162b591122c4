"""`python -m bench.plain`: a gRPC stream between two processes, as a peer of byte streams. SHELL.

It is what gRPC in Python does by itself: TLS with a certificate on both sides, one call that the
client fills with messages of one size, and the options of the library. Neither end does anything
with the bytes.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import grpc
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from controller.identity.ca import Subject, Unit, key_pem, new_authority
from controller.identity.cluster import issuer_of
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.clock import HOUR
from pyswarm_core.identity.trust import SERVER_NAME

_METHOD = "/bench.Plain/Stream"
_LIMITS = (("grpc.max_receive_message_length", -1),)
_CLIENT = (*_LIMITS, ("grpc.ssl_target_name_override", SERVER_NAME))


class Plain(NamedTuple):
    """The speed of a stream."""

    rate: float
    """Bytes per second, without the time until the first message."""
    cpu_s: float
    """Processor seconds of both ends, without their start."""


class Side(NamedTuple):
    """Where a process of the stream runs."""

    entering: Sequence[str]
    """The prefix of its command line, which enters a host's namespaces."""
    address: str


class _Task(msgspec.Struct):
    """What a process does, with a certificate for both. PEM."""

    size: int
    message: int
    address: str
    root: bytes
    key: bytes
    chain: bytes
    port: int = 0
    """Of the server, for the client."""


def stream(size: int, message: int, sender: Side, receiver: Side) -> Plain:
    """Send that many bytes in messages of one size from one process to another."""
    task = _task(size, message, receiver.address)
    with _started(receiver, task) as server:
        assert server.stdout is not None
        task.port = int(server.stdout.readline())
        with _started(sender, task) as client:
            assert client.stdout is not None
            sent_s = float(client.stdout.readline())
        took_s, received_s = map(float, server.stdout.readline().split())
        server.terminate()
    return Plain(size / took_s, sent_s + received_s)


def _task(size: int, message: int, address: str) -> _Task:
    now = SystemClock().now()
    authority, key = new_authority("bench", now), ec.generate_private_key(ec.SECP256R1())
    subject = Subject(Unit.MANAGER, "bench", "bench")
    issued = issuer_of(authority).certify(key.public_key(), subject, HOUR, now, serves=SERVER_NAME)
    root = authority.certificate.encode()
    return _Task(size, message, address, root, key_pem(key), issued.pem)


def _started(side: Side, task: _Task) -> subprocess.Popen[bytes]:
    words = [*side.entering, sys.executable, "-m", "bench.plain"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(task) + b"\n")
    process.stdin.flush()
    return process


async def _send(task: _Task) -> None:
    """Send the stream, then print the processor time of it."""
    credentials = grpc.ssl_channel_credentials(task.root, task.key, task.chain)
    target = f"{task.address}:{task.port}"
    async with grpc.aio.secure_channel(target, credentials, options=_CLIENT) as channel:
        call: Any = channel.stream_unary(_METHOD)()
        message, used_s = bytes(task.message), 0.0
        for number in range(-(-task.size // task.message) + 1):
            if number == 1:  # the first one waits for the connection
                used_s = time.process_time()
            await call.write(message)
        await call.done_writing()
        await call
        print(time.process_time() - used_s, flush=True)


async def _receive(task: _Task) -> None:
    """Print the port, receive a stream, and print its time and processor time."""

    async def receive(_: object, context: Any) -> bytes:
        await context.read()
        began_s, used_s, left = time.perf_counter(), time.process_time(), task.size
        while left > 0:
            left -= len(await context.read())
        took_s = time.perf_counter() - began_s
        print(took_s, time.process_time() - used_s, flush=True)
        return b""

    handler = grpc.stream_unary_rpc_method_handler(receive)
    service, method = _METHOD.strip("/").split("/")
    server = grpc.aio.server(options=_LIMITS)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    credentials = grpc.ssl_server_credentials([(task.key, task.chain)], task.root, True)
    print(server.add_secure_port(f"{task.address}:0", credentials), flush=True)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    given = msgspec.json.decode(sys.stdin.buffer.readline(), type=_Task)
    asyncio.run(_send(given) if given.port else _receive(given))
