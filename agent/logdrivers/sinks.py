"""Connections to the journal and to syslog servers, and the turns of the containers that send to
one address. SHELL over sockets; `Sink` blocks.
"""

import asyncio
import errno
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar, TypeVarTuple, Unpack

from agent.logdrivers.names import Names
from pyswarm_core.clock import Backoff
from pyswarm_core.docker.logdrivers import HOST_SYSLOG, JOURNALD, Address, LogSettings

JOURNAL = "/run/systemd/journal/socket"
ANSWER_S = 0.05
"""How long after its first datagram a server's host may answer that nobody listens."""
TIMEOUT_S = 5.0
"""Of a connection, with the resolution of its name and all addresses of it, and of one message: a
server that does not read must not block others' lines.
"""
_ADDRESSES_MAX = 3
"""Of a name: each gets its part of TIMEOUT_S."""
_ADDRESS_MIN_S = 0.1
"""For an address, if the resolution of the name took all the time."""

_RETRY_S, _RETRY_MAX_S = 1.0, 30.0
_READ_BYTES = 1024
"""Of what a server answers, which nobody needs."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def address_of(settings: LogSettings) -> Address:
    """Where the messages are sent: without an address the host's own syslog."""
    if settings.driver == JOURNALD:
        return Address("unixgram", path=JOURNAL)
    return settings.address if settings.address.kind else Address("unixgram", path=HOST_SYSLOG)


def shown(address: Address) -> str:
    """The address as users write it."""
    if address.path:
        return f"{address.kind}://{address.path}"
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{address.kind}://{host}:{address.port}"


class Sink:
    """A connection that is made when the first message is sent. Errors are OSError; the next
    message makes a new connection.
    """

    def __init__(self, address: Address, names: Names) -> None:
        self._address = address
        self._names = names
        self._socket: socket.socket | None = None
        self._is_tried = False

    def send(self, message: bytes) -> bool:
        """Send one message; False: it was dropped, as no datagram can hold it."""
        if self._socket is None:
            self._socket = self._connected()
            self._is_tried = False
        try:
            if self._is_stream:
                self._socket.sendall(message)
            else:
                self._socket.send(message)
            if not self._is_tried and self._address.kind == "udp":
                _require_accepted(self._socket)
        except OSError as error:
            if error.errno == errno.EMSGSIZE and not self._is_stream:
                return False
            self.close()
            raise
        self._is_tried = True
        return True

    def check(self) -> None:
        """Close the connection if the server did: what is sent to it would be lost."""
        if self._socket is None or not self._is_stream:
            return
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(0):
            return
        try:
            is_open = bool(self._socket.recv(_READ_BYTES))
        except OSError:
            is_open = False
        if not is_open:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
            self._socket = None

    @property
    def _is_stream(self) -> bool:
        return self._address.kind in ("tcp", "unix")

    def _connected(self) -> socket.socket:
        address = self._address
        kind = socket.SOCK_STREAM if self._is_stream else socket.SOCK_DGRAM
        if address.path:
            return _connected(socket.AF_UNIX, kind, address.path, TIMEOUT_S)
        end_s = time.monotonic() + TIMEOUT_S
        found = self._names.addresses(address.host, TIMEOUT_S)[:_ADDRESSES_MAX]
        failure = OSError(f"{address.host} has no address")
        for number, (family, (host, _, *rest)) in enumerate(found):
            part_s = (end_s - time.monotonic()) / (len(found) - number)
            target = (host, address.port, *rest)
            try:
                return _connected(family, kind, target, max(part_s, _ADDRESS_MIN_S))
            except OSError as error:
                failure = error
        raise failure


def _connected(family: int, kind: int, target: Any, timeout_s: float) -> socket.socket:
    made = socket.socket(family, kind)
    made.settimeout(timeout_s)
    try:
        made.connect(target)
    except BaseException:
        made.close()
        raise
    made.settimeout(TIMEOUT_S)
    return made


def _require_accepted(made: socket.socket) -> None:
    """Raises OSError if the host of the server answers that nobody listens."""
    poll = select.poll()
    poll.register(made, select.POLLERR)
    if poll.poll(ANSWER_S * 1000) and (
        error := made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    ):
        raise OSError(error, os.strerror(error))


class Turns:
    """The containers that send to one address take turns: an address that does not answer holds one
    thread, whatever the number of its containers, and each failure is a pause for all of them.
    """

    def __init__(self, threads: Executor) -> None:
        self.users = 0
        self._threads = threads
        self._lock = asyncio.Lock()
        self._backoff = Backoff.doubling(_RETRY_S, _RETRY_MAX_S)
        self._not_before_s = 0.0

    async def call(self, send: Callable[[Unpack[Ts]], T], *args: *Ts) -> T | None:
        """What `send` returns, in a thread. None, after the pause, if the address has failed.
        Raises OSError.
        """
        loop = asyncio.get_running_loop()
        async with self._lock:
            pause_s = self._not_before_s - loop.time()
            if pause_s <= 0:
                try:
                    return await loop.run_in_executor(self._threads, send, *args)
                except OSError:
                    self._not_before_s = loop.time() + self._backoff.next_s()
                    raise
        await asyncio.sleep(pause_s)
        return None

    def worked(self) -> None:
        """A message was sent: the next failure is the first one again."""
        self._backoff.reset()


class Addresses:
    """The turns of each address that containers send to. The threads are shared by all."""

    def __init__(self, threads: Executor) -> None:
        self._threads = threads
        self._turns: dict[Address, Turns] = {}

    @contextmanager
    def turns(self, address: Address) -> Iterator[Turns]:
        """Those of the address, for a container that sends to it in the block."""
        turns = self._turns.setdefault(address, Turns(self._threads))
        turns.users += 1
        try:
            yield turns
        finally:
            turns.users -= 1
            if not turns.users:
                del self._turns[address]
