"""gRPC's polling thread does not wait for the event loop."""

import asyncio
import gc
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator

import grpc.aio
import pytest

from pyswarm_core.aio.channel import unblock_poller

MESSAGES = 3_000
"""Ten times what the socket of the poller holds by default."""


def ends() -> list[socket.socket]:
    """Both ends of the poller's socket."""
    return [
        end
        for queue in gc.get_objects()
        if type(queue).__name__ == "PollerCompletionQueue"
        for end in gc.get_referents(queue)
        if isinstance(end, socket.socket)
    ]


async def test_no_end_of_its_socket_blocks() -> None:
    unblock_poller()
    assert [end.getblocking() for end in ends()] == [False, False]


CLIENT = f"""
import sys, grpc
with grpc.insecure_channel(sys.argv[1]) as connection:
    call = connection.stream_unary("/test.Test/Count")
    print(len(call(b"x" for _ in range({MESSAGES}))))
"""


@pytest.mark.timeout(60)
async def test_what_arrives_while_nothing_wakes_the_loop_is_all_handled() -> None:
    unblock_poller()
    # Full, as after a long pass of the loop.
    for end in ends():
        try:
            while True:
                end.send(b"1")
        except BlockingIOError:
            pass

    async def count(requests: AsyncIterator[bytes], _: object) -> bytes:
        return b"x" * len([one async for one in requests])

    server = grpc.aio.server()
    handler = grpc.stream_unary_rpc_method_handler(count)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Test", {"Count": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", CLIENT, f"127.0.0.1:{port}"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "GRPC_VERBOSITY": "NONE"},
        )
    finally:
        await server.stop(None)
    assert int(done.stdout) == MESSAGES
