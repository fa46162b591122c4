"""Fetches secrets and configs over the session's connection. SHELL."""

from typing import Protocol

import grpc

from agent.secrets.plan import Content
from agent.session.conversation import Session
from pyswarm_core.aio.status import error_of
from pyswarm_core.api.v1 import dispatcher_pb2, dispatcher_pb2_grpc
from pyswarm_core.errors import Unavailable

TIMEOUT_S = 10.0


class Serving(Protocol):
    """What has the session, once there is one."""

    session: Session | None


class Fetcher:
    """Fetches over the session that is open at the time."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def fetch(self, kind: str, object_id: str, task_id: str) -> Content:
        """A version that the task uses. Raises PyswarmError; Unavailable without a
        leader.
        """
        if (session := self._serving.session) is None:
            raise Unavailable("no session is open")
        request = dispatcher_pb2.FetchPayloadRequest(kind=kind, id=object_id, task_id=task_id)
        async with session.connection() as connection:
            stub = dispatcher_pb2_grpc.DispatcherStub(connection)
            try:
                reply = await stub.FetchPayload(request, timeout=TIMEOUT_S)
            except grpc.RpcError as error:
                raise error_of(error) from None
        return Content(reply.data, reply.template)
