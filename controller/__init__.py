"""The controller: stores what users request and decides which node runs which task."""

import os

import pyswarm_core  # noqa: F401  # before gRPC is imported

# gRPC's listener of the present release passes each message of a connection through threads of a
# pool; its former one reads and writes in the thread that polls, which takes a quarter less
# processor time per message (docs/performance.md). gRPC reads the variable once.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")
