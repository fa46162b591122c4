"""The end of a byte stream that opens a channel for each connection to a local port."""

import asyncio
import errno
import os
import socket

import pytest

from pyswarm_core.aio.streams import accepting as module
from pyswarm_core.aio.streams.accepting import accepting
from pyswarm_core.aio.streams.carrying import Carrier
from pyswarm_core.streams.frames import Connect, Frame


class Listener(socket.socket):
    """A listener whose first accepts fail as `failures` says."""

    def __init__(self, *failures: int) -> None:
        super().__init__()
        self.failures = list(failures)
        self.asked = 0
        self.begun = asyncio.Event()
        self.bind(("127.0.0.1", 0))
        self.listen()
        self.setblocking(False)

    def accept(self) -> tuple[socket.socket, object]:
        self.asked += 1
        self.begun.set()
        if self.failures:
            number = self.failures.pop(0)
            raise OSError(number, os.strerror(number))
        return super().accept()


@pytest.mark.parametrize(
    "number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED]
)
async def test_a_connection_that_cannot_be_accepted_now_is_later(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    sent: asyncio.Queue[Frame] = asyncio.Queue()
    carrier = Carrier(sent.put)
    with Listener(number) as listener, socket.create_connection(listener.getsockname()):
        monkeypatch.setattr(module, "PAUSE_S", 0.01)
        async with asyncio.TaskGroup() as group:
            with accepting(listener, sent.put, carrier, group):
                assert await sent.get() == Connect(1)
    assert listener.asked == 2


async def test_without_descriptors_it_does_not_ask_all_the_time() -> None:
    sent: asyncio.Queue[Frame] = asyncio.Queue()
    failures = [errno.EMFILE] * 100
    with Listener(*failures) as listener, socket.create_connection(listener.getsockname()):
        async with asyncio.TaskGroup() as group:
            with accepting(listener, sent.put, Carrier(sent.put), group):
                await asyncio.wait_for(listener.begun.wait(), 30)
                for _ in range(50):
                    await asyncio.sleep(0)
                assert listener.asked == 1
