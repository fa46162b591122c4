"""The files beside a log: what begins, ends and survives a forwarding."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.logdrivers.forwarder import Forwarder
from agent.logdrivers.plan import Forwarding
from agent.runtime import logrotate
from pyswarm_core.docker.logdrivers import Address, LogSettings

RECORD = "2026-01-02T03:04:05.000000007+00:00 stdout F one\n"
PATIENCE_S = 10.0


@asynccontextmanager
async def forwarding(logs: Path, ended: set[str]) -> AsyncIterator[Forwarder]:
    """A forwarder of the directory, for the length of the block."""
    made = Forwarder(logs, "host1", ended.__contains__)
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.wait([running])
        made.close()


async def gone(*paths: Path) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while any(path.exists() for path in paths):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    made = tmp_path / "logs"
    made.mkdir()
    return made


def test_the_log_of_a_forwarded_container_is_removed_with_its_last_line(logs: Path) -> None:
    log, driver = logs / "a1", logs / "a1.driver"
    log.write_text(RECORD)
    driver.touch()
    logrotate.remove(log)
    assert log.exists()
    assert (logs / "a1.removed").exists()
    driver.unlink()
    logrotate.remove(log)
    assert not log.exists()


async def test_a_log_is_sent_and_what_is_beside_it_removed(logs: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "s"))
        address = Address("unixgram", path=str(tmp_path / "s"))
        to = Forwarding(
            settings=LogSettings(driver="syslog", address=address),
            tag="t",
            full_id="a1",
            name="web",
            image="web:1",
        )
        (logs / "a1").write_text(RECORD)
        async with forwarding(logs, {"a1"}) as forwarder:
            forwarder.begin("a1", to)
            await gone(logs / "a1.driver", logs / "a1.sent")
        assert server.recv(1024).endswith(b": one")
    assert [path.name for path in logs.iterdir()] == ["a1"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]"])
async def test_a_damaged_driver_is_removed(content: bytes, logs: Path) -> None:
    for name in ("a1", "a1.driver", "a1.removed"):
        (logs / name).write_bytes(content)
    async with forwarding(logs, {"a1"}):
        await gone(*(logs / name for name in ("a1", "a1.driver", "a1.removed")))


async def test_a_container_without_a_log_needs_no_server(logs: Path) -> None:
    to = Forwarding(
        settings=LogSettings(driver="journald"), tag="t", full_id="a1", name="w", image="w"
    )
    async with forwarding(logs, {"a1"}) as forwarder:
        forwarder.begin("a1", to)
        await gone(logs / "a1.driver")
