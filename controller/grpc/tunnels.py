"""A stream that an agent opened by a Tunnel call, as `leader/tunnels.py` passes it on. SHELL.

Frames flow directly between two calls, so a slow side slows the other down and nothing is queued.
Every wait has a limit, and when one side ends, the other side receives the end.
"""

import asyncio
from typing import Any

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from controller.api.changes.reported import printable
from controller.grpc.calls import received
from pyswarm_core import errors
from pyswarm_core.aio.status import error_named
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.limits import TUNNEL_FRAME_BYTES
from pyswarm_core.streams.wire import in_tunnel

_RAW = ("log_lines", "stats")
"""The first are written by a program, and may be anything; of the others no text is shown."""
Context = grpc.aio.ServicerContext[Any, Any]


class GrpcTunnel:
    """One open stream to an agent, as leader/tunnels.py uses it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._closed = asyncio.Event()

    async def read(
        self, timeout_s: float | None = None
    ) -> dispatcher_pb2.TunnelFrame | bytes | None:
        """The next frame, None at the end; bytes: see `streams/passing.py`. Raises the error that
        the agent sent, Unavailable when it is gone or silent. Without `timeout_s` it waits while
        the connection exists (keepalive ends dead ones), as for followed logs.
        """
        try:
            async with asyncio.timeout(timeout_s):
                frame = await self._context.read()
        except TimeoutError:
            raise errors.Unavailable(f"the agent sent nothing for {timeout_s:g} s") from None
        except (grpc.RpcError, grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            raise errors.Unavailable("the agent's connection was lost") from error
        if isinstance(frame, bytes):
            return frame
        frame = received(frame, dispatcher_pb2.TunnelFrame)
        if frame is None:  # grpc.aio's EOF, also of dead connections
            raise errors.Unavailable("the agent's connection was lost")
        if frame.ByteSize() > TUNNEL_FRAME_BYTES:
            raise errors.Unavailable(
                f"the agent sent {frame.ByteSize()} bytes at once, more than {TUNNEL_FRAME_BYTES}"
            )
        kind = frame.WhichOneof("kind")
        if kind not in _RAW:
            clean(frame)
        if kind == "error":
            raise error_named(frame.error.kind, frame.error.message)
        return None if kind == "end" else frame

    async def write(self, frame: Any) -> None:
        """Send a frame of a byte stream. Raises Unavailable when the agent is gone."""
        passed = isinstance(frame, bytes)
        try:
            await self._context.write(
                in_tunnel(frame) if passed else dispatcher_pb2.TunnelFrame(stream=frame)
            )
        except (grpc.RpcError, grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            raise errors.Unavailable("the agent's connection was lost") from error

    def close(self) -> None:
        """End the agent's call."""
        self._closed.set()

    async def wait_closed(self) -> None:
        """Return when the reader is done."""
        await self._closed.wait()


def clean(message: Message) -> None:
    """Make every text of the message printable."""
    for field, value in message.ListFields():
        repeated = field.is_repeated
        if field.type == FieldDescriptor.TYPE_STRING:
            if repeated:
                value[:] = [printable(one) for one in value]
            else:
                setattr(message, field.name, printable(value))
        elif field.type != FieldDescriptor.TYPE_MESSAGE:
            continue
        elif _is_map(field):
            _clean_map(value)
        else:
            for one in value if repeated else (value,):
                clean(one)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _clean_map(found: Any) -> None:
    """The same of a map, whose keys may be texts too."""
    for key, value in list(found.items()):
        if isinstance(value, Message):
            clean(value)
        elif isinstance(value, str) and value != printable(value):
            found[key] = printable(value)
        if isinstance(key, str) and key != printable(key):
            if not isinstance(value, Message):
                found.setdefault(printable(key), found[key])
            del found[key]
