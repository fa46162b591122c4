"""Bounds of byte streams, with their reasons. PURE."""

from pyswarm_core.clock import MINUTE

STREAM_FRAME_BYTES = 60 * 1024
"""Data in one frame. The daemons' allocator maps blocks of 64 KiB and more one by one
(`pyswarm_core/aio/memory.py`): frames of 256 KiB took twice the processor time.
"""
STREAM_WINDOW = 1024 * 1024
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
