"""gRPC's standard health service. SHELL.

The process itself ("") is serving as long as it answers; the APIs (by their full names) are only
where this controller leads, so that a load balancer sends users to the leader.
"""

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

SERVICES = ("pyswarm.v1.Control", "pyswarm.v1.Dispatcher")


class Health:
    """The health of this controller's services."""

    def __init__(self) -> None:
        self._servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the stubs lack it

    def add_to(self, server: grpc.aio.Server) -> None:
        """Add the health service to the server."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def set_locked(self) -> None:
        """Nothing is served: this controller is locked."""
        not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", *SERVICES):
            await self._servicer.set(service, not_serving)

    async def set_leading(self, leading: bool) -> None:
        """Set whether this controller serves users and agents."""
        status = health_pb2.HealthCheckResponse
        for service in SERVICES:
            await self._servicer.set(service, status.SERVING if leading else status.NOT_SERVING)
