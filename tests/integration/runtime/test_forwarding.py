"""Lines of real containers arrive at real sockets, once, whatever happens to agent and server."""

import asyncio
import json
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from agent.logdrivers import forwarder as forwarding
from agent.logdrivers import sinks
from agent.logdrivers.forwarder import Forwarder
from agent.logdrivers.plan import Forwarding
from agent.runtime.base import LogLimits
from pyswarm_core.docker.logdrivers import Address, LogSettings
from tests.fixtures.runtime_contract import PATIENCE_S, exit_of
from tests.fixtures.runtime_contract import until as contract_until
from tests.integration.runtime.conftest import RealWorld

LIMITS = LogLimits(max_size=1 << 20, max_file=3)
COUNT = "for i in $(seq 1 {}); do echo line $i; echo error $i >&2; done"


class Server:
    """A syslog server or journal: what it received, one message each."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.path = directory / "log.sock"
        self.received: list[bytes] = []
        self._socket: socket.socket | None = None
        self._connections: list[socket.socket] = []
        self._port = 0
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> Address:
        """Where it listens."""
        if self.kind in ("unix", "unixgram"):
            return Address(self.kind, path=str(self.path))
        return Address(self.kind, "127.0.0.1", self._port)

    def start(self) -> None:
        """Listen, at the same address as before."""
        family = socket.AF_UNIX if self.kind.startswith("unix") else socket.AF_INET
        stream = self.kind in ("tcp", "unix")
        listening = socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
        if family is socket.AF_UNIX:
            self.path.unlink(missing_ok=True)
            listening.bind(str(self.path))
        else:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
            listening.bind(("127.0.0.1", self._port))
            self._port = listening.getsockname()[1]
        if stream:
            listening.listen()
        self._socket = listening
        target = self._accept if stream else self._receive
        self._thread = threading.Thread(target=target, args=(listening,))
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, and close every connection."""
        if self._socket is None or self._thread is None:
            return
        closing, self._socket = (self._socket, *self._connections), None
        for each in closing:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_S)
        for each in closing:
            each.close()
        self._connections = []

    def _receive(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while data := listening.recv(1 << 18):
                self.received.append(data)

    def _accept(self, listening: socket.socket) -> None:
        listening.settimeout(0.1)
        while self._socket is listening:
            with suppress(OSError):
                connection, _ = listening.accept()
                connection.settimeout(None)
                self._connections.append(connection)
                threading.Thread(target=self._lines, args=(connection,)).start()

    def _lines(self, connection: socket.socket) -> None:
        with suppress(OSError), connection.makefile("rb") as lines:
            for line in lines:
                self.received.append(line.removesuffix(b"\n"))

    def texts(self, word: bytes = b"line") -> list[bytes]:
        """What the messages of a stream say, without their heads."""
        found = (message.partition(b"]: ")[2] for message in self.received)
        return [text for text in found if text.startswith(word)]


@pytest.fixture(params=["udp", "tcp", "unix", "unixgram"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    made = Server(request.param, tmp_path)
    made.start()
    yield made
    await asyncio.to_thread(made.stop)


def to(server: Server) -> Forwarding:
    settings = LogSettings(driver="syslog", address=server.address)
    return Forwarding(settings=settings, tag="tag", full_id="a1", name="web", image="web:1")


@asynccontextmanager
async def agent(world: RealWorld) -> AsyncIterator[Forwarder]:
    """What an agent does with logs, for the length of the block."""
    made = Forwarder(world.layout.logs, "host1", world.layout.writes_no_more)
    tasks = [asyncio.create_task(made.run()), asyncio.create_task(world.runtime.tend())]
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        made.close()


async def until(reached: Callable[[], object]) -> None:
    async def holds() -> bool:
        return bool(reached())

    await contract_until(holds)


async def created(world: RealWorld, script: str) -> None:
    await world.runtime.create(world.custom("a1", ("/bin/sh", "-c", script), log_limits=LIMITS))


def numbered(word: str, count: int) -> list[bytes]:
    return [f"{word} {number}".encode() for number in range(1, count + 1)]


async def test_every_line_arrives_in_order_and_the_files_are_removed(
    server: Server, world: RealWorld
) -> None:
    await created(world, COUNT.format(500) + "; printf 'no end'")
    async with agent(world) as forwarder:
        forwarder.begin("a1", to(server))
        await world.runtime.start("a1")
        await exit_of(world.runtime, "a1")
        await until(lambda: not list(world.layout.logs.glob("a1.driver")))
        await until(lambda: server.texts(b"no end"))
    assert server.texts() == numbered("line", 500)
    assert server.texts(b"error") == numbered("error", 500)
    assert server.received[0][:1] == b"<"
    assert {message[:4] for message in server.received} == {b"<30>", b"<27>"}
    names = {path.name for path in world.layout.logs.iterdir()}
    assert names == {"a1", "a1.0"}


async def test_a_restarted_agent_sends_every_line_once(server: Server, world: RealWorld) -> None:
    script = "i=0; while [ $i -lt 600 ]; do i=$((i+1)); echo line $i; sleep 0.002; done"
    await created(world, script)
    async with agent(world) as forwarder:
        forwarder.begin("a1", to(server))
        await world.runtime.start("a1")
        await until(lambda: len(server.texts()) > 10)
    for more in (50, 150):
        async with agent(world):
            await until(lambda count=more: len(server.texts()) > count)  # type: ignore[misc]
    await exit_of(world.runtime, "a1")
    async with agent(world):
        await until(lambda: not list(world.layout.logs.glob("a1.driver")))
        await until(lambda: len(server.texts()) == 600)
    assert server.texts() == numbered("line", 600)


async def test_a_server_that_comes_back_gets_the_lines_of_meanwhile(
    server: Server, world: RealWorld
) -> None:
    server.stop()
    await created(world, COUNT.format(300) + "; sleep 1000")
    async with agent(world) as forwarder:
        forwarder.begin("a1", to(server))
        await world.runtime.start("a1")
        await asyncio.sleep(1.5)
        await asyncio.to_thread(server.start)
        await until(lambda: len(server.texts()) >= 300)
    assert server.texts() == numbered("line", 300)


async def test_a_removed_container_s_lines_are_still_sent(server: Server, world: RealWorld) -> None:
    await created(world, COUNT.format(100))
    async with agent(world) as forwarder:
        await world.runtime.start("a1")
        await exit_of(world.runtime, "a1")
        forwarder.begin("a1", to(server))
        await world.runtime.remove("a1", keep_logs=False)
        await until(lambda: not list(world.layout.logs.iterdir()))
        await until(lambda: len(server.received) == 200)


async def test_a_removed_container_s_lines_are_given_up_in_the_end(
    world: RealWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "LINGER_S", 0.5)
    nobody = Server("unixgram", tmp_path)
    await created(world, COUNT.format(10))
    async with agent(world) as forwarder:
        forwarder.begin("a1", to(nobody))
        await world.runtime.start("a1")
        await exit_of(world.runtime, "a1")
        await world.runtime.remove("a1", keep_logs=False)
        await until(lambda: not list(world.layout.logs.iterdir()))


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """A real systemd-journald in a mount namespace of its own; returns the entries of a match."""
    script = (
        "mkdir -p /run/systemd /run/log && mount -t tmpfs none /run/systemd"
        " && mount -t tmpfs none /run/log && mkdir /run/systemd/journal"
        " && exec /lib/systemd/systemd-journald"
    )
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", script]) as running:
        path = Path(f"/proc/{running.pid}/root/run/systemd/journal/socket")
        monkeypatch.setattr(sinks, "JOURNAL", str(path))

        def entries(match: str) -> list[dict[str, Any]]:
            command = ["nsenter", "-t", str(running.pid), "--mount", "journalctl", "--no-pager"]
            command += ["--directory=/run/log/journal", "--output=json", match]
            shown = subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE_S)
            return [json.loads(line) for line in shown.stdout.split(b"\n") if line]

        try:
            yield entries
        finally:
            running.kill()


async def test_a_real_journal_has_every_line_with_its_container(
    journal: Callable[[str], list[dict[str, Any]]], world: RealWorld
) -> None:
    await created(world, COUNT.format(50))
    to_journal = Forwarding(
        settings=LogSettings(driver="journald"),
        tag="web/a1",
        full_id="a1",
        name="web.1.a1",
        image="web:1",
        attributes={"com.example.team": "blue\ngreen"},
    )
    async with agent(world) as forwarder:
        forwarder.begin("a1", to_journal)
        await world.runtime.start("a1")
        await exit_of(world.runtime, "a1")
        await until(lambda: not list(world.layout.logs.glob("a1.driver")))
        await until(lambda: len(journal("CONTAINER_NAME=web.1.a1")) == 100)
    found = journal("CONTAINER_ID_FULL=a1")
    texts = [entry["MESSAGE"].encode() for entry in found]
    assert [text for text in texts if text.startswith(b"line")] == numbered("line", 50)
    assert {(entry["MESSAGE"][:4], entry["PRIORITY"]) for entry in found} == {
        ("line", "6"),
        ("erro", "3"),
    }
    assert {entry["COM_EXAMPLE_TEAM"] for entry in found} == {"blue\ngreen"}
    assert {(entry["CONTAINER_TAG"], entry["IMAGE_NAME"]) for entry in found} == {
        ("web/a1", "web:1")
    }


async def test_a_server_that_does_not_read_delays_no_other(
    world: RealWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "TIMEOUT_S", 1.0)
    deaf = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    deaf.bind(str(tmp_path / "deaf"))
    deaf.listen()
    await created(world, COUNT.format(5000) + "; sleep 1000")
    async with agent(world) as forwarder:
        address = Address("unix", path=str(tmp_path / "deaf"))
        settings = LogSettings(driver="syslog", address=address)
        other = Forwarding(settings=settings, tag="t", full_id="a1", name="w", image="w")
        forwarder.begin("a1", other)
        await world.runtime.start("a1")
        await asyncio.sleep(1)
        used = sum(path.stat().st_size for path in world.layout.logs.iterdir())
        assert used <= 4 * LIMITS.max_size
        reader = Server("unixgram", tmp_path)
        reader.start()
        script = ("/bin/sh", "-c", COUNT.format(5))
        await world.runtime.create(world.custom("a2", script, log_limits=LIMITS))
        forwarder.begin("a2", to(reader))
        await world.runtime.start("a2")
        await until(lambda: reader.texts() == numbered("line", 5))
        await asyncio.to_thread(reader.stop)
    deaf.close()
