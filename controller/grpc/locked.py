"""The server of a locked controller: Unlock, and health, on its Unix sockets. SHELL."""

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc

from controller.grpc.calls import Context, ErrorsToStatus
from controller.grpc.health import Health
from controller.grpc.listening import add_socket
from controller.identity.autolock import parse_unlock_key
from controller.identity.keyring import LOCKED, Keyring
from pyswarm_core.aio.channel import SERVER_OPTIONS
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.clock import Clock, Instant
from pyswarm_core.errors import InvalidArgument, Unavailable
from pyswarm_core.ids import IdSource

_log = EventLog("controller.autolock")

STOP_GRACE_S = 1.0


class _Refusal(grpc.GenericRpcHandler):  # type: ignore[type-arg] # no generic at run time
    """Every call without another handler fails."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """See grpc."""
        return grpc.stream_stream_rpc_method_handler(_refuse)


async def _refuse(requests: object, context: Context) -> None:
    raise Unavailable(LOCKED)


async def until_unlocked(
    listen: Iterable[str], keyring: Keyring, ids: IdSource, clock: Clock
) -> Instant:
    """Serve until a caller of Unlock has the key; return when that was. Raises InvalidArgument
    without a Unix socket.
    """
    sockets = [address for address in listen if address.startswith("unix:")]
    if not sockets:
        raise InvalidArgument(
            "--listen: this controller is locked, and has no Unix socket on which it can be"
            " unlocked: add --listen unix:///run/pyswarm/pyswarm.sock"
        )
    unlocked: asyncio.Future[Instant] = asyncio.get_running_loop().create_future()

    async def unlock(request: pb.UnlockRequest, context: Context) -> pb.UnlockReply:
        keyring.unlock(parse_unlock_key(request.unlock_key))
        unlocked.set_result(clock.now())
        return pb.UnlockReply()

    server = grpc.aio.server(interceptors=[ErrorsToStatus(ids)], options=SERVER_OPTIONS)
    method = grpc.unary_unary_rpc_method_handler(
        unlock,
        request_deserializer=pb.UnlockRequest.FromString,
        response_serializer=pb.UnlockReply.SerializeToString,
    )
    health = Health()
    health.add_to(server)
    await health.set_locked()
    handler = grpc.method_handlers_generic_handler("pyswarm.v1.Control", {"Unlock": method})
    server.add_generic_rpc_handlers((handler, _Refusal()))
    for address in sockets:
        add_socket(server, address)
    await server.start()
    _log.warning("controller.locked", unlock="pyswarm swarm unlock")
    try:
        at = await unlocked
        _log.info("controller.unlocked")
    finally:
        await server.stop(STOP_GRACE_S)
    return at
