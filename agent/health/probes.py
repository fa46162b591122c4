"""Makes one check of a task: a command in its container, or a connection from its namespace.
SHELL.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from functools import partial

from agent.fitness import is_host_error
from agent.health import http2
from agent.health.base import Outcome, Target
from agent.health.connecting import OpenSocket, connect
from agent.health.lingering import Lingering
from agent.network.base import NetworkFailed
from agent.runtime.base import Command, HostFailed, Runtime, RuntimeFailed
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import seconds
from pyswarm_core.docker.units import format_duration
from pyswarm_core.errors import reason_of
from pyswarm_core.limits import EXEC_OUTPUT_MAX
from pyswarm_core.objects import clipped
from pyswarm_core.plaintext import as_utf8
from pyswarm_core.specs import HealthConfig

_log = EventLog("agent.health")

_TIMED_OUT = -1
"""Docker's exit code of a check that exceeded its timeout or could not be made."""
_HEAD_MAX = 4096
"""Bytes of an HTTP response that are read until its status line is known."""
_INTERIM = re.compile(rb"HTTP/\d\.\d 1(?!01)\d\d\b")
"""A response before the final one. 101 is final."""


class Probes:
    """Makes the checks of one host's tasks."""

    def __init__(self, runtime: Runtime, open_socket: OpenSocket) -> None:
        self._runtime = runtime
        self._open_socket = open_socket
        self._lingering = Lingering()

    def close(self) -> None:
        """Close the connections of checks that have ended."""
        self._lingering.close_all()

    async def __call__(self, target: Target, config: HealthConfig) -> Outcome:
        """See `Probe`."""
        try:
            outcome = await self._check(target, config)
        except TimeoutError:
            outcome = _late(config, "")
        except (RuntimeFailed, NetworkFailed) as error:
            outcome = Outcome(_TIMED_OUT, str(error), counts=not _is_the_hosts(error))
        except OSError as error:
            lacking = is_host_error(error)
            outcome = Outcome(_TIMED_OUT if lacking else 1, reason_of(error), counts=not lacking)
        except Exception as error:
            _log.error("check.internal_error", trace=True, task=target.task_id, error=error)
            outcome = Outcome(_TIMED_OUT, f"internal error of the agent: {type(error).__name__}")
        output = clipped(as_utf8(outcome.output).strip(), EXEC_OUTPUT_MAX)
        return Outcome(outcome.exit_code, output, outcome.counts)

    async def _check(self, target: Target, config: HealthConfig) -> Outcome:
        match config.test:
            case ("CMD", *args):
                return await self._exec(target, tuple(args), config)
            case ("CMD-SHELL", text):
                return await self._exec(target, ("/bin/sh", "-c", text), config)
            case ("HTTP", where):
                port, _, path = where.partition("/")
                return await self._connected(target, config, port, lambda s: _http(s, port, path))
            case ("TCP", port):
                return await self._connected(target, config, port, _tcp)
            case ("GRPC", where):
                port, _, service = where.partition("/")
                return await self._connected(target, config, port, lambda s: _grpc(s, service))
            case _:
                raise RuntimeFailed(f"this agent knows no check of kind {config.test[0]!r}")

    async def _exec(self, target: Target, args: tuple[str, ...], config: HealthConfig) -> Outcome:
        command = Command(args=args)
        ended = await self._runtime.exec(target.task_id, command, seconds(config.timeout))
        output = ended.output.decode(errors="replace")
        return _late(config, output) if ended.timed_out else Outcome(ended.code, output)

    async def _connected(
        self,
        target: Target,
        config: HealthConfig,
        port: str,
        talk: Callable[[socket.socket], Awaitable[Outcome]],
    ) -> Outcome:
        connection: socket.socket | None = None
        try:
            async with asyncio.timeout(seconds(config.timeout)):
                make = partial(self._open_socket, target.pid)
                connection = await connect(make, target.address, int(port))
                return await talk(connection)
        finally:
            if connection is not None:
                self._lingering.close(connection, lingers=config.test[0] == "HTTP")


def _is_the_hosts(error: RuntimeFailed | NetworkFailed) -> bool:
    """Whether a resource of the host was used up."""
    if isinstance(error, RuntimeFailed):
        return isinstance(error, HostFailed)
    return is_host_error(error)


def _late(config: HealthConfig, output: str) -> Outcome:
    text = f"exceeded timeout ({format_duration(config.timeout)})"
    return Outcome(_TIMED_OUT, f"{text}: {output}" if output else text)


async def _tcp(_: socket.socket) -> Outcome:
    return Outcome(0, "connected")


async def _http(connection: socket.socket, port: str, path: str) -> Outcome:
    """GET, without following redirects; 200 to 399 is success."""
    loop = asyncio.get_running_loop()
    request = (
        f"GET /{path} HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: pyswarm-check\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n"
    )
    await loop.sock_sendall(connection, request.encode())
    head, read = b"", 0
    while (line := _status_line(head)) is None and read < _HEAD_MAX:
        if read:
            await asyncio.sleep(0)  # sock_recv returns at once as long as there is data
        if not (found := await loop.sock_recv(connection, _HEAD_MAX)):
            break
        head += found
        read += len(found)
    line = line if line is not None else _first_line(head)
    return Outcome(0 if _is_success(line) else 1, line or "the server closed the connection")


async def _grpc(connection: socket.socket, service: str) -> Outcome:
    """grpc.health.v1.Health/Check; SERVING is success."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, http2.request("localhost", service))
    answer = http2.Answer()
    while answer.status is None and not answer.ended:
        await asyncio.sleep(0)  # sock_recv returns at once as long as there is data
        if not (found := await loop.sock_recv(connection, http2.FRAME_MAX)):
            break
        if reply := answer.feed(found):
            await loop.sock_sendall(connection, reply)
    if answer.status is None:
        return Outcome(1, f"no answer to {http2.PATH}: does the server implement it?")
    known = answer.status < len(http2.STATUSES)
    status = http2.STATUSES[answer.status] if known else str(answer.status)
    return Outcome(0 if answer.status == http2.SERVING else 1, status)


def _status_line(head: bytes) -> str | None:
    """The status line of the final response; None: it has not arrived yet. Responses before it
    (103 Early Hints) are skipped.
    """
    while _INTERIM.match(head):
        _, blank, head = head.replace(b"\r\n", b"\n").partition(b"\n\n")
        if not blank:
            return None
    return _first_line(head) if b"\n" in head else None


def _first_line(head: bytes) -> str:
    return head.partition(b"\n")[0].decode(errors="replace").strip()


def _is_success(line: str) -> bool:
    protocol, _, rest = line.partition(" ")
    status = rest[:3]
    return protocol.startswith("HTTP/") and status.isdecimal() and 200 <= int(status) < 400
