"""The DNS resolver of every task: answers on the task's loopback, and forwards unknown names.
SHELL.

The sockets are created inside the task's network namespace and served on the agent's one event
loop. They hold the namespace, so `close` closes all of them. Invariant: whatever a task sends costs
the agent a bounded number of sockets and tasks, and never raises an exception.
"""

import asyncio
import errno
import random
import socket
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, suppress
from typing import Any, ParamSpec, Protocol

from agent.network.base import (
    RESOLVER_ADDRESS,
    RESOLVER_PORT,
    DesiredEndpoint,
    DesiredOverlay,
    EndpointKey,
    NetworkFailed,
)
from agent.network.dns import wire
from agent.network.dns.forward import HostServers, Upstream
from agent.network.dns.resolve import Directory
from agent.network.dns.wire import Query, Unreadable
from agent.network.netns import Namespaces
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.limits import (
    NAMES_CONNECTIONS_PER_TASK,
    NAMES_FORWARDED_AT_ONCE,
    NAMES_FORWARDED_PER_TASK,
)

P = ParamSpec("P")
_log = EventLog("agent.names")

PIPELINED = 16
"""Queries of one connection that are processed at once; further ones wait in the kernel."""
STREAM_S = 10.0
"""How long a connection may be silent, or not read our answers."""
_DATAGRAMS_AT_ONCE = 32
"""Datagrams read before other sockets are served."""
_BACKLOG = 64
_ACCEPT_AGAIN_S = 1.0


class Tally(Protocol):
    """Counts the outcome of each query."""

    def asked(self, outcome: str) -> None:
        """A query ended: `answered`, `empty`, `unknown`, `forwarded`, `failed`, `refused`, `busy`
        or `malformed`.
        """
        ...

    def forwarded(self, seconds: float) -> None:
        """Another name server took so long to answer."""
        ...


@asynccontextmanager
async def serving_names(
    namespaces: Namespaces, host: HostServers, tally: Tally
) -> AsyncIterator["NameServers"]:
    """Resolvers of tasks, served until the block ends."""
    async with asyncio.TaskGroup() as group:
        servers = NameServers(namespaces, host, tally, group)
        try:
            yield servers
        finally:
            await servers.close_all()


class NameServers:
    """The resolvers of all tasks of a host; see `agent.network.base.Resolvers`."""

    def __init__(
        self,
        namespaces: Namespaces,
        host: HostServers,
        tally: Tally,
        group: asyncio.TaskGroup,
    ) -> None:
        self.directory = Directory()
        self.tally = tally
        self.host = host
        self.forwarding = 0
        self._namespaces = namespaces
        self._group = group
        self._resolvers: dict[TaskId, _Resolver] = {}

    def replace(
        self, overlays: Iterable[DesiredOverlay], endpoints: Iterable[DesiredEndpoint]
    ) -> None:
        """See Resolvers."""
        self.directory.replace(overlays, endpoints)

    def update(self, changed: Mapping[EndpointKey, DesiredEndpoint | None]) -> None:
        """See Resolvers."""
        self.directory.update(changed)

    async def open(
        self, task_id: TaskId, networks: Sequence[NetworkId], servers: Sequence[str]
    ) -> None:
        """See Resolvers."""
        resolver = self._resolvers.get(task_id)
        if resolver is None:
            datagrams, streams = await self.inside(task_id, _listeners)
            resolver = self._resolvers[task_id] = _Resolver(self, task_id, datagrams, streams)
        resolver.networks = tuple(networks)
        resolver.set_upstream(servers)

    async def close(self, task_id: TaskId) -> None:
        """See Resolvers."""
        if resolver := self._resolvers.pop(task_id, None):
            await resolver.close()

    async def close_all(self) -> None:
        """Close the sockets of every task."""
        for task_id in list(self._resolvers):
            await self.close(task_id)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run work that ends with the servers at the latest."""
        return self._group.create_task(work)

    async def inside(
        self, task_id: TaskId, make: Callable[[], tuple[socket.socket, ...]]
    ) -> tuple[socket.socket, ...]:
        """Sockets created in the task's namespace. Raises NetworkFailed."""

        def work() -> tuple[socket.socket, ...]:
            with self._namespaces.entered(task_id):
                return make()

        future = asyncio.get_running_loop().run_in_executor(None, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            if not future.exception():
                for made in future.result():
                    made.close()
            raise
        except OSError as error:
            raise NetworkFailed(f"no resolver for task {task_id}: {error}") from error


class _Resolver:
    """One task's resolver."""

    def __init__(
        self,
        owner: NameServers,
        task_id: TaskId,
        datagrams: socket.socket,
        streams: socket.socket,
    ) -> None:
        self.networks: tuple[NetworkId, ...] = ()
        self._owner = owner
        self._task_id = task_id
        self._datagrams = datagrams
        self._streams = streams
        self._upstream: Upstream | None = None
        self._work: set[asyncio.Task[None]] = set()
        self._open: set[socket.socket] = set()
        self._forwarding = 0
        self._loop = asyncio.get_running_loop()
        # By number: asyncio looks a socket up by an error whose text includes the socket.
        self._loop.add_reader(datagrams.fileno(), self._read_datagrams)
        self._loop.add_reader(streams.fileno(), self._accept)

    def set_upstream(self, servers: Sequence[str]) -> None:
        """Forward to these servers, from the task's namespace; none: to the host's servers."""
        # Forwarding to this resolver itself would loop.
        others = tuple(server for server in servers if server != RESOLVER_ADDRESS)
        if not others:
            self._upstream = None
        elif self._upstream is None or self._upstream.servers != others:
            self._upstream = Upstream(others, self._make_socket)

    async def close(self) -> None:
        """Close all its sockets."""
        self._loop.remove_reader(self._datagrams)
        self._loop.remove_reader(self._streams)
        self._datagrams.close()
        self._streams.close()
        if self._work:
            for work in self._work:
                work.cancel()
            await asyncio.wait(self._work)
        # Connections whose task was cancelled before it began.
        for stream in list(self._open):
            stream.close()

    def _read_datagrams(self) -> None:
        for _ in range(_DATAGRAMS_AT_ONCE):
            try:
                raw, sender = self._datagrams.recvfrom(wire.QUERY_BYTES_MAX + 1)
            except OSError:
                return
            reply = self._answer_locally(raw)
            if isinstance(reply, Query):
                self._spawn(self._relay, reply, sender)
            else:
                self._send(reply, sender)

    async def _relay(self, query: Query, sender: Any) -> None:
        self._send(await self._forward(query, whole=False), sender)

    def _send(self, reply: bytes, sender: Any) -> None:
        if reply and self._datagrams.fileno() >= 0:
            # With a full buffer the answer is lost, and the client retries.
            with suppress(OSError):
                self._datagrams.sendto(reply, sender)

    def _accept(self) -> None:
        try:
            stream, _ = self._streams.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                self._loop.remove_reader(self._streams)
                self._spawn(self._accept_later)
            return
        if len(self._open) >= NAMES_CONNECTIONS_PER_TASK:
            self._owner.tally.asked("busy")
            stream.close()
            return
        stream.setblocking(False)
        self._open.add(stream)
        self._spawn(self._serve_stream, stream)

    async def _accept_later(self) -> None:
        await asyncio.sleep(_ACCEPT_AGAIN_S)
        self._loop.add_reader(self._streams, self._accept)

    async def _serve_stream(self, stream: socket.socket) -> None:
        """Serve one connection: read queries, and send each answer when it is ready."""
        slots, turn = asyncio.Semaphore(PIPELINED), asyncio.Lock()

        async def answer(raw: bytes) -> None:
            try:
                reply = self._answer_locally(raw, limit_bytes=wire.TCP_BYTES)
                if isinstance(reply, Query):
                    reply = await self._forward(reply, whole=True)
                async with turn, asyncio.timeout(STREAM_S):
                    await self._loop.sock_sendall(stream, len(reply).to_bytes(2) + reply)
            finally:
                slots.release()

        try:
            async with asyncio.TaskGroup() as group:
                while raw := await self._question(stream):
                    await slots.acquire()
                    group.create_task(answer(raw))
        except* OSError:
            # The client closed the connection, or was too slow.
            pass
        finally:
            self._open.discard(stream)
            stream.close()

    async def _question(self, stream: socket.socket) -> bytes:
        """The next query of a connection; empty: no further one is valid."""
        async with asyncio.timeout(STREAM_S):
            head = await self._exactly(stream, 2)
            length = int.from_bytes(head)
            return b"" if length > wire.QUERY_BYTES_MAX else await self._exactly(stream, length)

    async def _exactly(self, stream: socket.socket, count: int) -> bytes:
        found = b""
        while len(found) < count:
            part = await self._loop.sock_recv(stream, count - len(found))
            if not part:
                return b""
            found += part
        return found

    def _answer_locally(self, raw: bytes, limit_bytes: int = 0) -> bytes | Query:
        """The answer, empty if none is due; or the query, if it must be forwarded."""
        query = wire.read(raw)
        tally = self._owner.tally
        if isinstance(query, Unreadable):
            tally.asked("malformed")
            return query.reply
        limit = limit_bytes or wire.datagram_bytes(query)
        turn = random.getrandbits(32)
        found = self._owner.directory.answer(self.networks, query, turn, limit)
        if found is not None:
            tally.asked("unknown" if found.unknown else "answered" if found.rows else "empty")
            code = wire.NAME_ERROR if found.unknown else wire.NO_ERROR
            return wire.answer(query, found.rows, more=found.more, code=code)
        if self._upstream is None and not self._owner.directory.has_external_network(self.networks):
            tally.asked("refused")
            return wire.answer(query, code=wire.REFUSED)
        return query

    async def _forward(self, query: Query, *, whole: bool) -> bytes:
        """The answer of another name server; SERVFAIL if there is none."""
        owner = self._owner
        if (
            self._forwarding >= NAMES_FORWARDED_PER_TASK
            or owner.forwarding >= NAMES_FORWARDED_AT_ONCE
        ):
            owner.tally.asked("busy")
            return wire.answer(query, code=wire.SERVER_FAILURE)
        self._forwarding += 1
        owner.forwarding += 1
        began = self._loop.time()
        try:
            reply = await (self._upstream or owner.host.upstream()).ask(query, whole=whole)
        except (NetworkFailed, OSError) as error:
            _log.warning("names.forward_failed", task=self._task_id, error=error)
            reply = None
        finally:
            self._forwarding -= 1
            owner.forwarding -= 1
        if reply is None:
            owner.tally.asked("failed")
            return wire.answer(query, code=wire.SERVER_FAILURE)
        owner.tally.asked("forwarded")
        owner.tally.forwarded(self._loop.time() - began)
        return reply

    async def _make_socket(
        self, family: socket.AddressFamily, kind: socket.SocketKind
    ) -> socket.socket:
        def make() -> tuple[socket.socket, ...]:
            made = socket.socket(family, kind)
            made.setblocking(False)
            return (made,)

        (made,) = await self._owner.inside(self._task_id, make)
        return made

    def _spawn(self, work: Callable[P, Awaitable[None]], *args: P.args, **named: P.kwargs) -> None:
        async def guarded() -> None:
            try:
                await work(*args, **named)
            except Exception as error:
                _log.error("names.unforeseen", trace=True, task=self._task_id, error=error)

        task = self._owner.spawn(guarded())
        self._work.add(task)
        task.add_done_callback(self._work.discard)


def _listeners() -> tuple[socket.socket, ...]:
    """A task's two sockets, created in the calling thread's namespace."""
    place = RESOLVER_ADDRESS, RESOLVER_PORT
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    streams = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        for listener in (datagrams, streams):
            listener.setblocking(False)
        # Connections of a killed agent may linger at this address.
        streams.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        datagrams.bind(place)
        streams.bind(place)
        streams.listen(_BACKLOG)
    except OSError:
        datagrams.close()
        streams.close()
        raise
    return datagrams, streams
