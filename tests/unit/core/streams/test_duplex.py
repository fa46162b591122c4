"""Two ends of a byte stream that are connected in memory."""

import asyncio

import pytest

from pyswarm_core.aio.streams.duplex import Duplex
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.streams.frames import Data, Frame, HalfClose, Resize, Window
from pyswarm_core.streams.limits import STREAM_FRAME_BYTES, STREAM_FRAME_BYTES_LEAST


class Ends:
    """A sender and a receiver, and the frames between them."""

    def __init__(self, window: int) -> None:
        self.sent: list[Frame] = []
        self.granted: list[Frame] = []
        self.sender = Duplex(self._to_receiver, 1, [1])
        self.receiver = Duplex(self._to_sender, window, [1])

    async def _to_receiver(self, frame: Frame) -> None:
        self.sent.append(frame)
        self.receiver.take(frame)

    async def _to_sender(self, frame: Frame) -> None:
        self.granted.append(frame)
        self.sender.take(frame)


class Source:
    """Bytes to read, and how many were."""

    def __init__(self, size: int) -> None:
        self.left = size

    async def __call__(self, size: int) -> bytes:
        taken = min(size, self.left)
        self.left -= taken
        return bytes(taken)


async def until(condition: object) -> None:
    """Let others run until they wait."""
    for _ in range(100):
        await asyncio.sleep(0)


async def test_everything_arrives_and_then_the_end() -> None:
    ends, got = Ends(1000), bytearray()

    async def write(data: bytes) -> None:
        got.extend(data)

    async with asyncio.TaskGroup() as group:
        group.create_task(ends.receiver.drain(1, write))
        group.create_task(ends.sender.pump(1, Source(12_345)))
    assert len(got) == 12_345
    assert ends.sent[-1] == HalfClose(1)


async def test_data_is_sent_in_frames_of_bounded_size() -> None:
    ends, got = Ends(1 << 22), []

    async def write(data: bytes) -> None:
        got.append(data)

    async with asyncio.TaskGroup() as group:
        group.create_task(ends.receiver.drain(1, write))
        group.create_task(ends.sender.pump(1, Source(1300 * 1024)))
    sizes = [len(frame.data) for frame in ends.sent if isinstance(frame, Data)]
    assert sizes == [512 * 1024, 512 * 1024, 276 * 1024]
    assert STREAM_FRAME_BYTES == 512 * 1024
    assert [*map(len, got)] == sizes, "large frames are not copied into one"


async def test_frames_are_as_small_as_their_sender_has_to_make_them() -> None:
    sent: list[Frame] = []

    async def send(frame: Frame) -> None:
        sent.append(frame)

    sender = Duplex(send, 1, [1], frame_bytes=STREAM_FRAME_BYTES_LEAST)
    sender.take(Window(1, 1 << 20))
    await sender.pump(1, Source(100 * 1024))
    assert [len(one.data) for one in sent if isinstance(one, Data)] == [60 * 1024, 40 * 1024]
    assert STREAM_FRAME_BYTES_LEAST == 60 * 1024


async def test_small_frames_that_wait_are_written_together() -> None:
    ends, got = Ends(1 << 20), list[bytes]()
    ends.receiver.take(Window(1, 0))

    async def write(data: bytes) -> None:
        got.append(data)

    async with asyncio.TaskGroup() as group:
        draining = group.create_task(ends.receiver.drain(1, write))
        await until(ends)
        for size in (10, 20, 64 * 1024, 5, 6):
            ends.receiver.take(Data(1, bytes(size)))
        ends.receiver.take(HalfClose(1))
        await draining
    assert [*map(len, got)] == [30, 64 * 1024, 11]


async def test_a_sender_without_credit_does_not_read_its_source() -> None:
    ends, source = Ends(1000), Source(10_000)

    async def never(data: bytes) -> None:
        await asyncio.get_running_loop().create_future()

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(ends.receiver.drain(1, never)),
            group.create_task(ends.sender.pump(1, source)),
        ]
        await until(ends)
        assert source.left == 9_000
        await ends.sender._send(Resize(1, 2))
        assert ends.sent[-1] == Resize(1, 2), "frames without data need no credit"
        for task in tasks:
            task.cancel()


async def test_data_that_was_not_granted_is_refused() -> None:
    ends = Ends(10)
    with pytest.raises(InvalidArgument):
        ends.receiver.take(Data(1, b"x"))


def test_frames_of_other_channels_are_ignored_and_others_are_not_taken() -> None:
    ends = Ends(10)
    assert ends.receiver.take(Data(9, b"x"))
    assert ends.receiver.take(HalfClose(9))
    assert ends.receiver.take(Window(9, 5))
    assert not ends.receiver.take(Resize(1, 2))
    ends.receiver.close(1)
    assert ends.receiver.take(Data(1, b"x"))


async def test_data_of_no_bytes_is_not_held() -> None:
    ends, received = Ends(10), list[bytes]()

    async def write(data: bytes) -> None:
        received.append(data)

    for _ in range(1000):
        ends.receiver.take(Data(1, b""))
    ends.receiver.take(HalfClose(1))
    await ends.receiver.drain(1, write)
    assert received == []
