"""The agent: the daemon on each host that runs tasks as containers on overlay networks."""

import pyswarm_core  # noqa: F401  # before gRPC is imported
