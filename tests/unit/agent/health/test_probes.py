"""One check of each kind, against servers of this process."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc

from agent.health import http2
from agent.health.base import Outcome, Target
from agent.health.lingering import Lingering
from agent.health.probes import Probes
from agent.network.base import NetworkFailed
from agent.runtime.base import ContainerConfig, HostFailed
from agent.runtime.fake import CommandScript, FakeRuntime, Script
from pyswarm_core.clock import MILLISECOND, SECOND
from pyswarm_core.ids import TaskId
from pyswarm_core.limits import EXEC_OUTPUT_MAX
from pyswarm_core.specs import HealthConfig

T1 = Target(TaskId("t1"), 1)
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def open_socket(pid: int) -> socket.socket:
    return socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)


async def probe(*test: str, timeout: int = SECOND, **target: str) -> Outcome:
    config = HealthConfig(test=test, timeout=timeout)
    probes = Probes(FakeRuntime(), open_socket)
    return await probes(Target(TaskId("t1"), 1, **target), config)


@asynccontextmanager
async def server(handle: Handler, host: str = "127.0.0.1") -> AsyncIterator[int]:
    handled: list[asyncio.Future[None]] = []

    async def handle_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended = asyncio.get_running_loop().create_future()
        handled.append(ended)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await handle(reader, writer)
                writer.write_eof()
                await reader.read()  # until the check closes its side
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        finally:
            ended.set_result(None)

    listening = await asyncio.start_server(handle_and_close, host, 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]
    await asyncio.gather(*handled)


def answering(text: bytes, asked: list[bytes] | None = None) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if asked is not None:
            asked.append(head)
        writer.write(text)

    return handle


async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("HTTP/1.1 200 OK", 0),
        ("HTTP/1.0 204 No Content", 0),
        ("HTTP/1.1 302 Found", 0),
        ("HTTP/1.1 399 x", 0),
        ("HTTP/1.1 400 Bad Request", 1),
        ("HTTP/1.1 503 Service Unavailable", 1),
        ("HTTP/1.1 199 x", 1),
        ("SSH-2.0-x", 1),
        ("HTTP/1.1 abc", 1),
        ("HTTP/1.1 101 Switching Protocols", 1),
    ],
)
async def test_an_http_check_succeeds_from_200_to_399(line: str, code: int) -> None:
    asked: list[bytes] = []
    async with server(answering(f"{line}\r\nLocation: /x\r\n\r\nbody".encode(), asked)) as port:
        assert await probe("HTTP", f"{port}/ok?a=b") == Outcome(code, line)
    (head,) = asked
    assert head.startswith(f"GET /ok?a=b HTTP/1.1\r\nHost: localhost:{port}\r\n".encode())


async def test_an_http_server_that_says_nothing_fails() -> None:
    async with server(answering(b"")) as port:
        found = await probe("HTTP", f"{port}/")
        assert found == Outcome(1, "the server closed the connection")


async def test_responses_before_the_final_one_are_skipped() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    for ending, code in ((b"HTTP/1.1 200 OK\r\n\r\n", 0), (b"HTTP/1.1 500 No\r\n\r\n", 1)):
        async with server(answering(early + early + ending)) as port:
            assert (await probe("HTTP", f"{port}/")).exit_code == code
    async with server(answering(early)) as port:
        assert (await probe("HTTP", f"{port}/")).exit_code == 1


async def test_a_check_is_limited_in_time() -> None:
    async with server(mute) as port:
        for kind, where in (("HTTP", f"{port}/"), ("GRPC", str(port))):
            found = await probe(kind, where, timeout=20 * MILLISECOND)
            assert found == Outcome(-1, "exceeded timeout (20ms)")


async def test_a_tcp_check_connects() -> None:
    async with server(mute) as port:
        assert await probe("TCP", str(port)) == Outcome(0, "connected")
    found = await probe("TCP", str(port), address="127.0.0.1")
    assert found == Outcome(1, f"port {port}: connection refused")


async def test_a_server_on_the_tasks_own_address_alone_is_found() -> None:
    async with server(mute, "127.0.0.2") as port:
        assert (await probe("TCP", str(port), address="127.0.0.2")).exit_code == 0


async def test_a_connection_to_itself_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

    def bound(pid: int) -> socket.socket:
        """As if the kernel chose the checked port as the connection's own one."""
        made = open_socket(pid)
        made.bind(("127.0.0.1", port))
        return made

    found = await Probes(FakeRuntime(), bound)(
        T1, HealthConfig(test=("TCP", str(port)), timeout=SECOND)
    )
    assert found == Outcome(1, f"port {port}: connection refused")


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (OSError(errno.EMFILE, "x"), False),
        (OSError(errno.ENFILE, "x"), False),
        (OSError(errno.ENOMEM, "x"), False),
        (OSError(errno.ENOBUFS, "x"), False),
        (NetworkFailed("cannot enter: too many open files"), False),
        (OSError(errno.EHOSTUNREACH, "x"), True),
        (NetworkFailed("no such namespace"), True),
    ],
)
async def test_a_check_for_which_the_agent_lacks_a_resource_does_not_count(
    error: Exception, counts: bool
) -> None:
    def refuse(pid: int) -> socket.socket:
        raise error

    found = await Probes(FakeRuntime(), refuse)(T1, HealthConfig(test=("TCP", "1"), timeout=SECOND))
    assert found.counts is counts
    assert found.exit_code == (1 if counts and isinstance(error, OSError) else -1)


async def test_commands_for_which_the_host_lacks_a_resource_do_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(*_: object) -> None:
        raise HostFailed("cannot start a command: too many open files")

    monkeypatch.setattr(FakeRuntime, "exec", refuse)
    found = await Probes(FakeRuntime(), open_socket)(
        T1, HealthConfig(test=("CMD", "x"), timeout=SECOND)
    )
    assert (found.exit_code, found.counts) == (-1, False)


FLOODS = {
    "settings without end": bytes([0, 0, 0, 4, 1, 0, 0, 0, 0]) * 1000,
    "a message without end": bytes([0, 64, 0, 0, 0, 0, 0, 0, 1])
    + b"\x00\xff\xff\xff\xff"
    + bytes(16379),
    "data of another call": (bytes([0, 64, 0, 0, 0, 0, 0, 0, 3]) + bytes(16384)) * 4,
}


def silent(heard: asyncio.Event) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set()
        await reader.read()

    return handle


class Flood(socket.socket):
    """A connection on which data is always ready; it fails a check that reads on and on."""

    flood = b""
    given = 0

    def recv(self, size: int, flags: int = 0) -> bytes:
        assert self.given < 16 * http2.ANSWER_MAX, "the check reads without end"
        at = self.given % len(self.flood)
        found = (self.flood[at:] + self.flood * 20)[:size]
        self.given += len(found)
        return found


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
async def test_a_server_that_sends_without_end_fails_and_delays_nobody(flood: bytes) -> None:
    heard = asyncio.Event()
    async with server(silent(heard)) as port:
        made = Flood(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        made.flood = flood
        turns = list[int]()

        async def others() -> None:
            while True:
                turns.append(made.given)
                await asyncio.sleep(0)

        running = asyncio.create_task(others())
        probes = Probes(FakeRuntime(), lambda _: made)
        found = await probes(T1, HealthConfig(test=("GRPC", str(port)), timeout=SECOND))
        running.cancel()
        await heard.wait()
    assert found.exit_code == 1
    assert "no answer" in found.output
    read = [number for number in turns if number <= 2 * http2.ANSWER_MAX]
    steps = [after - before for before, after in pairwise(read)]
    assert max(steps) <= http2.FRAME_MAX, "the event loop turns after each read"


async def test_an_http_server_that_sends_hints_without_end_fails() -> None:
    heard = asyncio.Event()
    async with server(silent(heard)) as port:
        made = Flood(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        made.flood = b"HTTP/1.1 103 Early Hints\r\n\r\n"
        probes = Probes(FakeRuntime(), lambda _: made)
        config = HealthConfig(test=("HTTP", f"{port}/"), timeout=SECOND)
        assert (await probes(T1, config)).exit_code == 1
        await heard.wait()


def test_a_server_that_shuts_down_may_still_answer() -> None:
    last_call = bytes([0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0])
    data = bytes([0, 0, 7, 0, 0, 0, 0, 0, 1]) + bytes([0, 0, 0, 0, 2, 8, 1])
    answer = http2.Answer()
    answer.feed(last_call)
    assert not answer.ended
    answer.feed(data)
    assert answer.status == 1
    none, failed = bytearray(last_call), bytearray(last_call)
    none[12], failed[16] = 0, 1
    for frame in (none, failed):
        answer = http2.Answer()
        answer.feed(bytes(frame))
        assert answer.ended


async def test_connections_linger_a_bounded_number_at_once() -> None:
    lingering = Lingering()
    pairs = [socket.socketpair() for _ in range(300)]
    for near, _ in pairs:
        near.setblocking(False)
        lingering.close(near, lingers=True)
    still = [near.fileno() != -1 for near, _ in pairs]
    assert (still.count(True), still[:44], still[-1]) == (256, [False] * 44, True)
    for _, far in pairs:
        far.setblocking(False)
        assert await asyncio.get_running_loop().sock_recv(far, 1) == b"", "closed in the end"
    ended_near, ended_far = socket.socketpair()
    ended_far.close()
    lingering.close(ended_near, lingers=True)
    assert ended_near.fileno() == -1, "its peer has closed it"
    last_near, last_far = socket.socketpair()
    last_near.setblocking(False)
    lingering.close(last_near, lingers=True)
    lingering.close_all()
    assert last_near.fileno() == -1, "all are closed at once"
    last_far.close()
    for _, far in pairs:
        far.close()


@pytest.mark.parametrize("error", [NetworkFailed("no such namespace"), OSError(24, "EMFILE")])
async def test_a_check_that_cannot_be_made_raises_nothing(error: Exception) -> None:
    def refuse(pid: int) -> socket.socket:
        raise error

    probes = Probes(FakeRuntime(), refuse)
    found = await probes(T1, HealthConfig(test=("TCP", "1"), timeout=SECOND))
    assert found.exit_code != 0
    assert found.output


async def contained(test: tuple[str, ...], script: CommandScript, timeout: int) -> Outcome:
    runtime = FakeRuntime()
    runtime.scripts["t1"] = Script(commands={test[1] if test[0] == "CMD" else "/bin/sh": script})
    await runtime.create(ContainerConfig(id="t1", oci={}, layers=()))
    await runtime.start("t1")
    probes = Probes(runtime, open_socket)
    return await probes(T1, HealthConfig(test=test, timeout=timeout))


async def test_a_command_decides_by_its_exit_code() -> None:
    for test in (("CMD", "check", "it"), ("CMD-SHELL", "check it")):
        ended = await contained(test, CommandScript(code=3, output=b" \xffno\n"), SECOND)
        assert ended == Outcome(3, "\ufffdno")
        assert (await contained(test, CommandScript(), SECOND)).exit_code == 0


async def test_a_command_that_takes_too_long_fails_with_what_it_wrote() -> None:
    script = CommandScript(takes_s=60, output=b"waiting")
    found = await contained(("CMD", "check"), script, 10 * MILLISECOND)
    assert found == Outcome(-1, "exceeded timeout (10ms): waiting")


async def test_output_is_bounded_in_bytes() -> None:
    script = CommandScript(code=1, output=b"\xff" * 10_000)
    found = await contained(("CMD", "check"), script, SECOND)
    assert 4_000 < len(found.output.encode()) <= EXEC_OUTPUT_MAX


async def test_a_container_that_is_gone_fails() -> None:
    probes = Probes(FakeRuntime(), open_socket)
    found = await probes(T1, HealthConfig(test=("CMD", "x"), timeout=SECOND))
    assert (found.exit_code, "not running" in found.output) == (-1, True)


@asynccontextmanager
async def grpc_server(**statuses: int) -> AsyncIterator[int]:
    """Serves grpc.health.v1 if there is a status."""
    made = grpc.aio.server()
    servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the stubs lack it
    for service, status in statuses.items():
        await servicer.set(service, status)
    if statuses:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, made)
    port = made.add_insecure_port("127.0.0.1:0")
    await made.start()
    try:
        yield port
    finally:
        await made.stop(0)


async def test_a_grpc_check_asks_for_the_service() -> None:
    long = "s" * 300
    async with grpc_server(**{"": 1, "db": 2, "new": 0, "gone": 3, long: 1}) as port:
        assert await probe("GRPC", str(port)) == Outcome(0, "SERVING")
        assert await probe("GRPC", f"{port}/{long}") == Outcome(0, "SERVING")
        assert await probe("GRPC", f"{port}/db") == Outcome(1, "NOT_SERVING")
        assert await probe("GRPC", f"{port}/new") == Outcome(1, "UNKNOWN")
        assert await probe("GRPC", f"{port}/gone") == Outcome(1, "SERVICE_UNKNOWN")
        assert (await probe("GRPC", f"{port}/other")).exit_code == 1


async def test_a_grpc_server_without_health_fails() -> None:
    async with grpc_server() as port:
        found = await probe("GRPC", str(port))
        assert found.exit_code == 1
        assert "/grpc.health.v1.Health/Check" in found.output


async def test_a_server_that_speaks_no_http2_fails() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        await reader.read()

    async with server(handle) as port:
        assert (await probe("GRPC", str(port))).exit_code == 1


def test_frames_may_come_in_any_pieces() -> None:
    settings = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    ping = bytes([0, 0, 8, 6, 0, 0, 0, 0, 0]) + b"12345678"
    data = bytes([0, 0, 7, 0, 0, 0, 0, 0, 1]) + bytes([0, 0, 0, 0, 2, 8, 1])
    padded = bytes([0, 0, 10, 0, 8, 0, 0, 0, 1]) + bytes([2, 0, 0, 0, 0, 2, 8, 1, 0, 0])
    for message in (data, padded):
        stream = settings + ping + message
        for size in range(1, len(stream) + 1):
            answer = http2.Answer()
            sent = b"".join(
                answer.feed(stream[at : at + size]) for at in range(0, len(stream), size)
            )
            assert answer.status == 1
            assert sent == bytes([0, 0, 0, 4, 1, 0, 0, 0, 0]) + ping[:4] + b"\x01" + ping[5:]


def test_a_message_that_is_too_long_is_not_awaited() -> None:
    head = bytes([0, 0, 5, 0, 0, 0, 0, 0, 1, 0])
    for size, ended in ((http2.MESSAGE_MAX, False), (http2.MESSAGE_MAX + 1, True)):
        answer = http2.Answer()
        answer.feed(head + size.to_bytes(4))
        assert (answer.ended, answer.status) == (ended, None)
