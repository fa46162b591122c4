"""TCP connections as channels of one byte stream: both ends of a port-forward. SHELL."""

import asyncio
import socket
from contextlib import suppress

from pyswarm_core.aio.streams.duplex import Duplex, Send
from pyswarm_core.errors import causes, reason_of
from pyswarm_core.streams.frames import Close, Frame
from pyswarm_core.streams.limits import STREAM_FRAME_BYTES_LEAST, STREAM_WINDOW_NODE


class Carrier:
    """The connections of one stream. Each is `reserved` first, then carried."""

    def __init__(
        self,
        send: Send,
        window: int = STREAM_WINDOW_NODE,
        frame_bytes: int = STREAM_FRAME_BYTES_LEAST,
    ) -> None:
        self._send = send
        self._duplex = Duplex(send, window, frame_bytes=frame_bytes)
        self._carried: dict[int, asyncio.Task[None] | None] = {}

    def __len__(self) -> int:
        return len(self._carried)

    def __contains__(self, channel: int) -> bool:
        return channel in self._carried

    def reserve(self, channel: int) -> None:
        """Accept frames of the channel from now on."""
        self._duplex.open(channel)
        self._carried[channel] = None

    def take(self, frame: Frame) -> bool:
        """Process a received frame; False if it is not about a connection that exists."""
        if not isinstance(frame, Close):
            return self._duplex.take(frame)
        task = self._carried.get(frame.channel)
        self.drop(frame.channel)
        if task is not None:
            task.cancel()
        return True

    def drop(self, channel: int) -> None:
        """Forget the channel."""
        self._duplex.close(channel)
        self._carried.pop(channel, None)

    async def refuse(self, channel: int, reason: str) -> None:
        """Tell the other side that there is no connection, and forget the channel."""
        self.drop(channel)
        await self._send(Close(channel, reason))

    async def carry(self, channel: int, connection: socket.socket) -> None:
        """Copy until both directions have ended, the connection fails or the other side closes it.
        Closes the connection, which does not block.
        """
        if channel not in self._carried:
            connection.close()
            return
        self._carried[channel] = asyncio.current_task()
        try:
            await self._copy(channel, connection)
        except asyncio.CancelledError:
            if channel in self._carried:  # not closed by the other side
                raise
        except ExceptionGroup as errors:
            error = next(causes(errors))
            if not isinstance(error, OSError):
                raise
            await self.refuse(channel, reason_of(error))
        finally:
            self.drop(channel)
            connection.close()

    async def _copy(self, channel: int, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()

        async def read(size: int) -> bytes:
            return await loop.sock_recv(connection, size)

        async def write(data: bytes) -> None:
            await loop.sock_sendall(connection, data)

        async def receive() -> None:
            await self._duplex.drain(channel, write)
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)

        async with asyncio.TaskGroup() as group:
            group.create_task(self._duplex.pump(channel, read))
            group.create_task(receive())
