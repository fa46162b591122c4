"""One end of a byte stream: copies between sources, sinks and channels, under credit. SHELL.

Both ends use it: the CLI between its own stdio and the call, the agent between a program's pipes
and the tunnel. Memory is bounded by one window per received channel and one frame per sent one.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

from pyswarm_core.streams.frames import Data, Frame, HalfClose
from pyswarm_core.streams.frames import Window as WindowFrame
from pyswarm_core.streams.limits import STREAM_FRAME_BYTES
from pyswarm_core.streams.windows import Credit, Window

_JOINED_MAX = 64 * 1024
"""Bytes of frames that are written together. Copies of large frames would cost more than writes."""

Send = Callable[[Frame], Awaitable[None]]
"""Sends one frame; several callers may call it at once."""
Read = Callable[[int], Awaitable[bytes]]
"""Returns at most so many bytes as soon as there are some; empty: the end."""
Write = Callable[[bytes], Awaitable[None]]
"""Returns when the bytes were written."""


class Duplex:
    """The channels of one stream. `window`: bytes that are held of each received channel.
    `frame_bytes`: the most data in a sent frame.
    """

    def __init__(
        self,
        send: Send,
        window: int,
        channels: Iterable[int] = (),
        *,
        frame_bytes: int = STREAM_FRAME_BYTES,
    ) -> None:
        self._send = send
        self._window = window
        self._frame_bytes = frame_bytes
        self._outgoing: dict[int, _Outgoing] = {}
        self._incoming: dict[int, _Incoming] = {}
        for channel in channels:
            self.open(channel)

    def open(self, channel: int) -> None:
        """Use the channel: frames of others are ignored."""
        self._outgoing[channel] = _Outgoing()
        self._incoming[channel] = _Incoming(self._window)

    def close(self, channel: int) -> None:
        """Forget the channel and what was received on it."""
        self._outgoing.pop(channel, None)
        self._incoming.pop(channel, None)

    async def pump(self, channel: int, read: Read) -> None:
        """Send what `read` returns until its end, then half-close the channel. Without credit it
        does not read.
        """
        await self.copy(channel, read)
        await self.finish(channel)

    async def copy(self, channel: int, read: Read) -> None:
        """The same without its end, for a stream of which the exit ends all channels."""
        outgoing = self._outgoing[channel]
        while data := await read(min(await outgoing.some(), self._frame_bytes)):
            outgoing.credit.take(len(data))
            await self._send(Data(channel, data))

    async def write(self, channel: int, data: bytes) -> None:
        """Send data, as there is credit for it."""
        outgoing = self._outgoing[channel]
        while data:
            size = min(await outgoing.some(), self._frame_bytes)
            sent, data = data[:size], data[size:]
            outgoing.credit.take(len(sent))
            await self._send(Data(channel, sent))

    async def finish(self, channel: int) -> None:
        """Half-close the channel."""
        await self._send(HalfClose(channel))

    async def drain(self, channel: int, write: Write) -> None:
        """Accept data on the channel and write it, until the sender half-closes it."""
        incoming = self._incoming[channel]
        while True:
            if not incoming.ended and (credit := incoming.window.due()):
                await self._send(WindowFrame(channel, credit))
            data = await incoming.next()
            if data is None:
                return
            await write(data)
            incoming.window.consumed(len(data))

    def take(self, frame: Frame) -> bool:
        """Process a received frame; False if it is not about a channel's data.

        Raises InvalidArgument for data without credit.
        """
        match frame:
            case Data(channel, data):
                if (incoming := self._incoming.get(channel)) is not None:
                    incoming.put(data)
            case HalfClose(channel):
                if (incoming := self._incoming.get(channel)) is not None:
                    incoming.end()
            case WindowFrame(channel, credit):
                if (outgoing := self._outgoing.get(channel)) is not None:
                    outgoing.grant(credit)
            case _:
                return False
        return True


class _Outgoing:
    """The credit of a channel, and whoever waits for it."""

    def __init__(self) -> None:
        self.credit = Credit()
        self._granted = asyncio.Event()

    def grant(self, count: int) -> None:
        self.credit.grant(count)
        self._granted.set()

    async def some(self) -> int:
        """How much may be sent, as soon as it is something."""
        while not self.credit.left:
            self._granted.clear()
            await self._granted.wait()
        return self.credit.left


class _Incoming:
    """What was received on a channel and not written."""

    def __init__(self, size: int) -> None:
        self.window = Window(size)
        self._queue: deque[bytes] = deque()
        self.ended = False
        """Whether the sender has half-closed it."""
        self._arrived = asyncio.Event()

    def put(self, data: bytes) -> None:
        if not data:  # which needs no credit, and would be held
            return
        self.window.received(len(data))
        self._queue.append(data)
        self._arrived.set()

    def end(self) -> None:
        self.ended = True
        self._arrived.set()

    async def next(self) -> bytes | None:
        """Some of what arrived since the last call, as soon as it is something; None after the
        end.
        """
        while not self._queue:
            if self.ended:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        found = [self._queue.popleft()]
        size = len(found[0])
        while self._queue and (size := size + len(self._queue[0])) <= _JOINED_MAX:
            found.append(self._queue.popleft())
        return found[0] if len(found) == 1 else b"".join(found)
