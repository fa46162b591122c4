"""The `pyswarm` command: Docker's words and columns over the controller's API."""

import pyswarm_core  # noqa: F401  # before gRPC is imported
