"""Bounds of byte streams and of other tunnels, with their reasons. PURE."""

from pyswarm_core.clock import MINUTE

STREAM_FRAME_BYTES = 512 * 1024
"""The most data in one frame. A frame takes half a millisecond of each process whatever its size,
so a MiB took 16 ms of processor time in frames of 60 KiB, 7 ms in those of 256 KiB and 4.5 ms in
these. Blocks of this size stay below MAPPED_FROM_BYTES (`pyswarm_core/aio/memory.py`).
"""
STREAM_FRAME_BYTES_LEAST = 60 * 1024
"""The most data in one frame of a stream among many, and of a connection of a port-forward."""
STREAM_FRAMES_NODE = 16 * 1024 * 1024
STREAM_FRAMES_LEADER = 64 * 1024 * 1024
"""Frames that all streams of an agent, and those through a leader, may have under way together,
until each has the least size. Each holds a frame up to three times: read, framed, and with gRPC.
"""
STREAM_WINDOW = 2 * 1024 * 1024
STREAM_WINDOW_NODE = 256 * 1024
"""Bytes of one channel that a caller, and an agent, accept before they are consumed."""
STREAMS_PER_NODE = 256
"""Byte streams that one agent serves at once; a command takes 2 MB for its OCI runtime."""
ATTACH_WAIT = MINUTE
"""A program that waits for a client starts without one after this long."""
EXEC_BYTES = 128 * 1024
"""Arguments and environment of one command, each with the NUL that ends it. Linux accepts 128 KiB
of one argument. The leader masks them for the audit log: 4 MB held up its event loop for a second.
"""
COPY_PATH_BYTES = 4096
"""A path of a copy: Linux's PATH_MAX."""
CONNECTIONS_PER_STREAM = 128
"""Connections of one port-forward: each takes a file descriptor of its task's agent."""
CONNECTIONS_PER_NODE = 1024
"""Those of all port-forwards to tasks of one node: each may hold a window and its buffers."""
REQUESTS_PER_NODE = 256
"""Requests that one agent answers at once (top, signals, pauses, checks, traces, lists of images);
each takes milliseconds. One caller has a quarter: `shares.py`.
"""
STATS_PER_NODE = 64
"""Streams of stats of one node. They share the samples; each encodes them once per second."""
PULLS_PER_NODE = 256
"""Pulls on one node, and lookups at its registries; each waits for the network for minutes."""
BUILDS_PER_NODE = 8
"""Builds on one node: each runs programs without limits of their own."""
BUILD_REQUEST_BYTES = 384 * 1024
"""The Dockerfile, secrets, arguments and logins of a build: a request has at most 512 KiB."""
BUILD_CONTEXT_BYTES = 16 * 1024**3
"""The archive of a context: it is unpacked on the disk of the node's images."""
FILE_WALKS_PER_NODE = 16
"""Walks through the files of containers; two threads take turns with them."""
VOLUME_COPIES_PER_NODE = 8
"""Copies of volumes' files, and into them, on one node: each may have a `tar` and a window. They
are bound by the disk, so more would only make each slower.
"""
VOLUME_WINDOW = STREAM_WINDOW
"""Bytes of an archive that an agent holds for a volume: with less, frames are not large."""
VOLUME_PORT = 7946
"""TCP: where an agent accepts archives of volumes that are moved to its node, while it expects one.
The number is that of Swarm's gossip, so firewalls between hosts that come from Swarm have it open.
"""
DIRECT_BYTES = 256 * 1024
"""Bytes of an archive that are encrypted, or decrypted, at once: 16 records of TLS."""
DIRECT_GREETINGS = 16
"""Connections at once that have not shown the key yet; each holds a thread."""
MOVES_AT_ONCE = 4
"""Volumes that a leader copies at a time: their bytes may pass through its host, so more would only
make each slower, and its event loop busier. Others wait, with their tasks ended.
"""
