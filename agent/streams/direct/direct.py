"""Connections between two agents for archives of volumes. SHELL over threads.

The destination of a move listens on VOLUME_PORT while it expects an archive, and draws a key for
it. The leader tells the source where, with the key, over its session. Both ends show the
certificates of their nodes, and the source shows the key: so nobody else, and no other node, sends
anything. Without a connection the archive goes through the leader.
docs/decisions/0033-agents-send-volumes-to-each-other.md.
"""

import asyncio
import hmac
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

from agent.streams.direct.connection import Connection, Own
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.errors import PyswarmError, line_of, reason_of
from pyswarm_core.streams.frames import Dial
from pyswarm_core.streams.limits import DIRECT_GREETINGS, VOLUME_COPIES_PER_NODE, VOLUME_PORT

_log = EventLog("agent.streams.direct")
T = TypeVar("T")

DIAL_S = 5.0
"""Time for the connection, the handshake and the key; a firewall may drop what is sent."""
IDLE_S = 300.0
"""A connection on which nothing moves for this long is broken."""
_PAUSE_S = 0.1
"""After a connection that could not be accepted, for want of descriptors."""
_KEY_BYTES = 16
_ACCEPTED = b"\x01"


class Arrival(NamedTuple):
    """An archive that is expected. `connection` is set once its sender has shown the key."""

    node_id: str
    port: int
    key: str
    connection: asyncio.Future[Connection]


class Direct:
    """The connections of one agent. `own` returns None before it has joined; `begin` starts work
    that its owner ends.
    """

    def __init__(
        self,
        own: Callable[[], Own | None],
        begin: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._own = own
        self._begin = begin
        self._expected: dict[str, Arrival] = {}
        self._accepting: asyncio.Task[None] | None = None
        self._greeted = 0
        self._threads = ThreadPoolExecutor(
            VOLUME_COPIES_PER_NODE + DIRECT_GREETINGS, "volume-direct"
        )

    def close(self) -> None:
        """End its threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    # The destination

    @asynccontextmanager
    async def expected(self, node_id: str) -> AsyncIterator[Arrival | None]:
        """Accept one connection of that node in the block, at whose end nobody uses it any more;
        None: the archive comes through the leader.
        """
        if not node_id or not self._listens():
            yield None
            return
        key = secrets.token_hex(_KEY_BYTES)
        connection = asyncio.get_running_loop().create_future()
        self._expected[key] = arrival = Arrival(node_id, VOLUME_PORT, key, connection)
        try:
            yield arrival
        finally:
            del self._expected[key]
            if not connection.cancel() and not connection.cancelled():
                connection.result().close()
            if not self._expected and self._accepting is not None:
                self._accepting.cancel()
                self._accepting = None

    def _listens(self) -> bool:
        if self._accepting is not None:
            return True
        if (own := self._own()) is None:
            return False
        family = socket.AF_INET6 if ":" in own.address else socket.AF_INET
        try:
            listener = socket.create_server((own.address, VOLUME_PORT), family=family)
        except OSError as error:
            _log.info("volume.no_listener", port=VOLUME_PORT, error=error)
            return False
        listener.setblocking(False)
        self._accepting = self._begin(self._accept(listener))
        self._accepting.add_done_callback(lambda _: listener.close())
        return True

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listener)
            except OSError as error:
                _log.warning("volume.accept_failed", error=error)
                await asyncio.sleep(_PAUSE_S)
                continue
            if self._greeted >= DIRECT_GREETINGS:
                accepted.close()
                continue
            self._greeted += 1
            self._begin(self._greet(accepted))

    async def _greet(self, accepted: socket.socket) -> None:
        """Give the connection to whoever expects it, or close it."""
        try:
            if (own := self._own()) is None:
                accepted.close()
                return
            connection, key = await self._within(accepted, partial(_greeted, accepted, own))
            arrival = next((one for k, one in self._expected.items() if _same(k, key)), None)
            awaited = arrival is not None and arrival.node_id == connection.peer
            if arrival is None or not awaited or arrival.connection.done():
                _log.warning("volume.connection_refused", node=connection.peer)
                connection.close()
                return
            arrival.connection.set_result(connection)
        except (OSError, PyswarmError) as error:
            _log.debug("volume.connection_failed", error=line_of(error))
        finally:
            self._greeted -= 1

    # The source

    async def dialled(self, dial: Dial) -> Connection | None:
        """A connection to the destination, which expects an archive; None if there is none. Whoever
        gets it closes it.
        """
        if not dial.port or (own := self._own()) is None:
            return None
        family = socket.AF_INET6 if ":" in dial.address else socket.AF_INET
        making = socket.socket(family, socket.SOCK_STREAM)
        try:
            return await self._within(making, partial(_dialled, making, own, dial))
        except (OSError, PyswarmError) as error:
            told = reason_of(error) if isinstance(error, OSError) else str(error)
            _log.info("volume.through_leader", to=dial.address, port=dial.port, error=told)
            return None

    # Both

    async def _within(self, connection: socket.socket, work: Callable[[], T]) -> T:
        """What the work returns, which owns the connection. Raises TimeoutError after DIAL_S."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            async with asyncio.timeout(DIAL_S):
                return await asyncio.shield(running)
        except BaseException:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            running.add_done_callback(_drop)
            raise

    async def run(self, connection: Connection, work: Callable[[], T]) -> T:
        """What the work returns, which uses the connection in a thread, and whatever else must not
        be closed before it has ended. Closes the connection.
        """
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(running)
        finally:
            connection.abort()
            while not running.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait((running,))
            connection.close()


def _drop(done: "asyncio.Future[Any]") -> None:
    """Close a connection that nobody waits for any more."""
    if done.cancelled() or done.exception() is not None:
        return
    found = done.result()
    connection = found[0] if isinstance(found, tuple) else found
    connection.close()


def _greeted(accepted: socket.socket, own: Own) -> tuple[Connection, str]:
    """A connection that was accepted, and the key that it shows."""
    try:
        accepted.settimeout(DIAL_S)
        connection = Connection(accepted, own, accepts=True)
        shown = bytearray(2 * _KEY_BYTES)
        size = 0
        while size < len(shown):
            if not (count := connection.receive_into(memoryview(shown)[size:])):
                raise ConnectionResetError("it ended without a key")
            size += count
        accepted.settimeout(IDLE_S)
        return connection, shown.decode("ascii", "replace")
    except BaseException:
        accepted.close()
        raise


def _dialled(making: socket.socket, own: Own, dial: Dial) -> Connection:
    try:
        making.settimeout(DIAL_S)
        making.connect((dial.address, dial.port))
        connection = Connection(making, own, accepts=False)
        if connection.peer != dial.node:
            raise ConnectionRefusedError(f"node {connection.peer} answered")
        connection.send(memoryview(dial.key.encode()))
        answer = bytearray(len(_ACCEPTED))
        if not connection.receive_into(memoryview(answer)):
            raise ConnectionRefusedError("it does not expect the archive")
        making.settimeout(IDLE_S)
        return connection
    except BaseException:
        making.close()
        raise


def accept(connection: Connection) -> None:
    """Tell the sender that its key is accepted."""
    connection.send(memoryview(_ACCEPTED))


def _same(key: str, shown: str) -> bool:
    return hmac.compare_digest(key.encode(), shown.encode())
