"""The ports of a controller's servers."""

import grpc

from controller.grpc.listening import listen
from controller.identity.cluster import server_identity
from tests.fixtures.build import NOW
from tests.fixtures.identity import FLEET


async def test_a_controller_listens_on_several_addresses() -> None:
    """gRPC gives the first configuration of credentials to one port only."""
    identity = server_identity(FLEET.cluster, "c1", NOW)
    server = grpc.aio.server()
    listen(server, ("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"), lambda: identity)
    await server.start()
    await server.stop(None)
