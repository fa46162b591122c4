"""One set of options for every gRPC channel and server, and for gRPC's own poller. SHELL.

Keepalive needs `ping_timeout_ms` too: without it a half-open connection is detected only after a
minute.

`min_reconnect_backoff_ms` is the time limit of a connection attempt, TLS handshake included, which
takes three round trips and waits its turn when a fleet returns.

A server's limits hold before anything is known of a caller; each was seen to have an effect
(`tests/integration/controller/attacks/test_connections.py`). `absolute_max_metadata_size` is the
one that is exact: from `max_metadata_size` on, calls fail at random. Without `bdp_probe` a stream
that nobody reads holds 64 KiB; with it gRPC grew the windows, and held 4 MiB of each.
"""

import gc
import socket

from pyswarm_core.clock import MILLISECOND
from pyswarm_core.limits import (
    CONNECTION_IDLE_MAX,
    GRPC_MESSAGE_BYTES,
    HANDSHAKE_MAX,
    METADATA_BYTES_MAX,
    STREAMS_PER_CONNECTION,
    TUNNEL_FRAME_BYTES,
)
from pyswarm_core.streams.limits import STREAM_FRAME_BYTES

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", GRPC_MESSAGE_BYTES),
    ("grpc.max_send_message_length", GRPC_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_http_proxy", 0),
)

STREAM_OPTIONS: tuple[tuple[str, int], ...] = (
    *CHANNEL_OPTIONS,
    ("grpc.http2.max_frame_size", STREAM_FRAME_BYTES),
    ("grpc.http2.lookahead_bytes", STREAM_FRAME_BYTES),
)
"""Of a client that receives byte streams: a frame arrives in one part, without a round trip per
window of 64 KiB. The credit of the stream bounds what is under way.
"""

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", TUNNEL_FRAME_BYTES),
    ("grpc.max_send_message_length", GRPC_MESSAGE_BYTES),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_MAX // MILLISECOND),
    ("grpc.max_connection_idle_ms", CONNECTION_IDLE_MAX // MILLISECOND),
    ("grpc.keepalive_time_ms", 60_000),  # ends calls of peers that are gone or do not answer
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.so_reuseport", 0),
)

_POLLER = "PollerCompletionQueue"
"""The class of the object in grpc.aio that has both ends of the socket."""


def unblock_poller() -> None:
    """Let gRPC's polling thread never wait for the event loop. A daemon calls it once, in its loop.

    For each completed operation the thread writes a byte to a socket of the loop, which reads one
    per pass. After 280 bytes the write blocks, until most are read: hundreds of passes, in which no
    connection of the process is read. Answers to pings are then late, and leases and sessions end.
    A byte that is not written is not needed, since the socket has others. The smallest buffer of
    the kernel has room for a few, and so spares most of the passes.

    Raises RuntimeError if this release of gRPC has no such socket.
    """
    import grpc.aio

    grpc.aio.init_grpc_aio()  # type: ignore[attr-defined]  # the stubs lack it
    ends = [
        end
        for queue in gc.get_objects()
        if type(queue).__name__ == _POLLER
        for end in gc.get_referents(queue)
        if isinstance(end, socket.socket)
    ]
    if len(ends) != 2:
        raise RuntimeError("this release of gRPC is not supported: its poller has no socket")
    for end in ends:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
