"""gRPC's place between agent and controller: the real session and dispatcher over a stream.

Only what opens channels and moves bytes is replaced; every word that travels is the real one. The
first message of a stream says whether it is a Session, a Join or a FetchPayload. An agent's comes
with the certificate that the connection would have.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import grpc

from agent.secrets.plan import Content
from agent.session.conversation import Session, SessionEnded
from controller.grpc.dispatcher import Dispatcher
from pyswarm_core.aio.status import code_of
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.errors import PermissionDenied, PyswarmError, Unavailable
from tests.sim.net import Broken, End, Net
from tests.sim.process import Process


class Refusal:
    """The last message of a stream whose server aborted it."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self.code = code
        self.details = details


class StreamContext:
    """A servicer's context over one end of a stream."""

    def __init__(self, end: End, first: object, certificate: bytes = b"") -> None:
        self._end = end
        self._first = first
        self._certificate = certificate

    def auth_context(self) -> dict[str, list[bytes]]:
        """As of a connection with TLS."""
        return {"x509_pem_cert": [self._certificate], "ssl_tls_version": [b"TLSv1.3"]}

    async def read(self) -> object:
        """The next message, or gRPC's end of file."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        message = await self._end.receive()
        return grpc.aio.EOF if message is None else message  # type: ignore[attr-defined]

    def peer(self) -> str:
        """gRPC's name for whoever dialled."""
        return "unix:"

    async def write(self, message: object) -> None:
        """Send it."""
        self._end.send(message)


async def _serve(dispatcher: Dispatcher, end: End, first: Any) -> None:
    if isinstance(first, dispatcher_pb2.JoinRequest):
        end.send(await dispatcher.Join(first, StreamContext(end, None)))  # type: ignore[arg-type]
    elif first is not None:
        certificate, hello = first
        context: Any = StreamContext(end, hello, certificate)
        if isinstance(hello, dispatcher_pb2.FetchPayloadRequest):
            end.send(await dispatcher.FetchPayload(hello, context))
        else:
            await dispatcher.Session(None, context)


def accept(process: Process, dispatcher: Dispatcher, end: End) -> None:
    """Serve a new stream; its handler is cancelled when the stream breaks, as gRPC does."""

    async def serve() -> None:
        try:
            await _serve(dispatcher, end, await end.receive())
        except (Broken, asyncio.CancelledError):
            pass
        except (PyswarmError, ExceptionGroup) as error:  # what gRPC's interceptor answers
            refused = error if isinstance(error, PyswarmError) else error.exceptions[0]
            if not isinstance(refused, PyswarmError):
                raise
            if not end.closed:
                end.send(Refusal(code_of(refused), str(refused)))
        finally:
            end.close()

    task = process.create_task(serve())

    def lost() -> None:
        if not process.dead:
            process.call_soon(task.cancel)

    end.on_lost = lost


class SimSession(Session):
    """The agent's session, dialling through the simulated network."""

    net: Net
    process: Process
    lies: Callable[[], Iterable[Any]] = staticmethod(lambda: ())
    """What a hostile agent says after each message."""

    async def _stream_to(self, address: str) -> None:
        end = await self.net.connect(self.process, self.process.name, address)
        self._begin(address)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._speak(end))
                while (message := await end.receive()) is not None:
                    if isinstance(message, Refusal):
                        raise SessionEnded(message.details)
                    await self._receive(message, None, group)  # type: ignore[arg-type]
                raise SessionEnded("the controller closed the session")
        finally:
            end.close()

    @property
    def certificate(self) -> bytes:
        """What a connection of this agent shows."""
        return self._identity.certificate.chain.encode()

    async def _speak(self, end: End) -> None:
        certificate = self.certificate
        is_first = True
        async for message in self._outgoing(self._stream):
            # The handshake shows the certificate; it travels with the first message.
            end.send((certificate, message) if is_first else message)
            is_first = False
            for lie in self.lies():
                end.send(lie)


async def join(net: Net, process: Process, target: str, request: Any) -> Any:
    """The reply of a controller to a host that joins, None if there was none."""
    try:
        end = await net.connect(process, process.name, target)
    except Broken:
        return None
    try:
        async with asyncio.timeout(10.0):
            end.send(request)
            reply = await end.receive()
    except (TimeoutError, Broken):
        return None
    finally:
        end.close()
    return reply if isinstance(reply, dispatcher_pb2.JoinReply) else None


async def fetch(net: Net, session: SimSession, kind: str, object_id: str, task_id: str) -> Content:
    """See `Fetcher.fetch`."""
    if not session.connected:
        raise Unavailable("no controller is connected")
    request = dispatcher_pb2.FetchPayloadRequest(kind=kind, id=object_id, task_id=task_id)
    process, end = session.process, None
    try:
        async with asyncio.timeout(10.0):
            end = await net.connect(process, process.name, session.controller)
            end.send((session.certificate, request))
            reply = await end.receive()
    except (TimeoutError, Broken):
        raise Unavailable("no answer") from None
    finally:
        if end is not None:
            end.close()
    if isinstance(reply, Refusal):
        is_denied = reply.code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND)
        raise (PermissionDenied if is_denied else Unavailable)(reply.details)
    if not isinstance(reply, dispatcher_pb2.FetchPayloadReply):
        raise Unavailable("the stream ended")
    return Content(reply.data, reply.template)
