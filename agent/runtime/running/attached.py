"""The stdio of a container's own program, through the socket of its monitor. SHELL over conmon.

conmon writes output to its attached clients before it does anything else, so a client that does not
read stops the container, as it does with Docker. Once the container's process has ended everything
is read, since conmon could not record the exit otherwise; it is no more than pipes hold.
"""

import asyncio
import os
import socket
from collections import deque
from contextlib import suppress
from pathlib import Path

from agent.runtime.base import RuntimeFailed

_HELD_MAX = 64 * 1024
"""Bytes that are read ahead of whom they are for."""
_PACKET_MAX = 32 * 1024
_INPUT_MAX = 8 * 1024
"""conmon reads packets of at most 32 KiB, and drops the rest of a larger one."""
_ACCEPTED_WITHIN_S = 10.0
_POLL_S = 0.001
_CHANNELS = {2: 1, 3: 2}
"""conmon's numbers of stdout and stderr."""


class Attached:
    """`Attachment` of a container."""

    def __init__(self, connection: socket.socket, bundle: Path, pidfd: int) -> None:
        self._connection = connection
        self._bundle = bundle
        self._pidfd = pidfd
        self._output: deque[tuple[int, bytes]] = deque()
        self._held = 0
        self._is_over = False
        self._ended = False
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """See `Attachment`."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._pidfd, self._process_ended)
        try:
            while True:
                while self._held >= _HELD_MAX and not self._is_over:
                    await self._change()
                packet = await self._packet()
                if not packet:
                    break
                self._output.append((_CHANNELS.get(packet[0], 1), packet[1:]))
                self._held += len(packet)
                self._changed.set()
        finally:
            loop.remove_reader(self._pidfd)
        self._ended = True
        self._changed.set()

    async def _packet(self) -> bytes:
        with suppress(ConnectionResetError):
            loop = asyncio.get_running_loop()
            return await loop.sock_recv(self._connection, _PACKET_MAX + 1)
        return b""

    def _process_ended(self) -> None:
        self._is_over = True
        self._changed.set()
        asyncio.get_running_loop().remove_reader(self._pidfd)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def read(self) -> tuple[int, bytes] | None:
        """See `Attachment`."""
        while not self._output:
            if self._ended:
                return None
            await self._change()
        channel, data = self._output.popleft()
        pieces, size = [data], len(data)
        while self._output and self._output[0][0] == channel and size < _HELD_MAX:
            _, data = self._output.popleft()
            pieces.append(data)
            size += len(data)
        self._held -= size + len(pieces)
        self._changed.set()
        return channel, b"".join(pieces)

    async def write(self, data: bytes) -> None:
        """See `Attachment`."""
        loop = asyncio.get_running_loop()
        with suppress(BrokenPipeError, ConnectionResetError):
            for first in range(0, len(data), _INPUT_MAX):
                await loop.sock_sendall(self._connection, data[first : first + _INPUT_MAX])

    def close_stdin(self) -> None:
        """See `Attachment`."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def resize(self, rows: int, columns: int) -> None:
        """See `Attachment`."""
        with suppress(OSError):
            control = os.open(self._bundle / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.write(control, b"1 %d %d\n" % (rows, columns))
            finally:
                os.close(control)

    def close(self) -> None:
        """See `Attachment`."""
        self._connection.close()
        os.close(self._pidfd)


async def attach(bundle: Path, pid: int, monitor: int) -> Attached:
    """Connect to the monitor, a process, of the container whose first process is `pid`. Raises
    RuntimeFailed if it has none.

    Returns once the monitor has accepted the connection: it writes output to those that it has
    accepted, whenever they connected.
    """
    before = _sockets(monitor)
    made = _connected(bundle, pid)
    give_up_at = asyncio.get_running_loop().time() + _ACCEPTED_WITHIN_S
    try:
        while (now := _sockets(monitor)) and now <= before:
            if asyncio.get_running_loop().time() > give_up_at:
                raise RuntimeFailed("cannot attach to the container: its monitor hangs")
            await asyncio.sleep(_POLL_S)
    except BaseException:
        made.close()
        raise
    return made


def _sockets(pid: int) -> set[str]:
    """The sockets of a process; none if it has ended."""
    found = set()
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                found.add(str(descriptor.readlink()))
    return {target for target in found if target.startswith("socket:")}


def _connected(bundle: Path, pid: int) -> Attached:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        pidfd = os.pidfd_open(pid)
        try:
            # By a descriptor: the path may be longer than that of a socket can be.
            directory = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                connection.connect(f"/proc/self/fd/{directory}/attach")
            finally:
                os.close(directory)
        except OSError:
            os.close(pidfd)
            raise
    except OSError as error:
        connection.close()
        raise RuntimeFailed(f"cannot attach to the container: {error.strerror}") from error
    return Attached(connection, bundle, pidfd)
