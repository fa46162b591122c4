"""The controller: stores what users request and decides which node runs which task."""

import pyswarm_core  # noqa: F401  # before gRPC is imported
