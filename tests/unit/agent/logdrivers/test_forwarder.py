"""The files beside a log: what begins, ends and survives a forwarding."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from agent.logdrivers import forwarder as module
from agent.logdrivers.forwarder import Forwarder
from agent.logdrivers.messages import Render, rendering
from agent.logdrivers.names import Names
from agent.logdrivers.plan import Forwarding
from agent.runtime import logrotate
from pyswarm_core.docker.logdrivers import Address, LogSettings

RECORD = "2026-01-02T03:04:05.000000007+00:00 stdout F one\n"
PATIENCE_S = 60.0


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


def to(address: Address) -> Forwarding:
    settings = LogSettings(driver="syslog", address=address)
    return Forwarding(settings=settings, tag="t", full_id="a1", name="web", image="web:1")


async def sent_beside(logs: Path, server: Path) -> None:
    """Wait until the line of another container arrives; a task that has ended raises."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(server))
        (logs / "b1").write_text(RECORD)
        async with forwarding(logs, {"b1"}) as forwarder:
            await asyncio.sleep(0.05)
            forwarder.begin("b1", to(Address("unixgram", path=str(server))))
            await gone(logs / "b1.driver")
        assert listening.recv(1024).endswith(b": one")


@pytest.mark.parametrize("host", ["a..b", "x" * 64])
async def test_a_host_that_no_name_can_be_fails_its_container_alone(
    host: str, logs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (logs / "a1").write_text(RECORD)
    (logs / "a1.driver").write_bytes(msgspec.json.encode(to(Address("udp", host, 514))))
    with caplog.at_level(logging.WARNING):
        await sent_beside(logs, tmp_path / "s")
    assert "logs.forward_failed" not in caplog.text
    assert "logs.unsent" in caplog.text
    assert (logs / "a1.driver").exists()


async def test_a_fault_of_one_container_does_not_end_the_others(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def faulty(forwarding: Forwarding, hostname: str, pid: int) -> Render:
        if forwarding.tag == "faulty":
            raise ZeroDivisionError
        return rendering(forwarding, hostname, pid)

    monkeypatch.setattr(module, "rendering", faulty)
    faults = msgspec.structs.replace(to(Address("udp", "127.0.0.1", 9)), tag="faulty")
    (logs / "a1.driver").write_bytes(msgspec.json.encode(faults))
    await sent_beside(logs, tmp_path / "s")
    assert "logs.forward_failed id=a1" in caplog.text


@pytest.mark.parametrize("left", [("a1", "a1.0", "a1.1", "a1.2"), ("a1.1",), ()])
def test_a_started_agent_goes_on_with_the_removal_of_a_log(
    left: tuple[str, ...], logs: Path
) -> None:
    for name in (*left, "a1.removed", "a1.sent", "b1", "b1.sent", "b1.draft", "c1", "c1.0"):
        (logs / name).write_text(RECORD)
    for name in ("d1", "d1.driver", "d1.sent", "d1.removed"):
        (logs / name).write_text(RECORD)
    Forwarder(logs, "host1", lambda _: True).close()
    kept = {"b1", "c1", "c1.0", "d1", "d1.driver", "d1.sent", "d1.removed"}
    assert {path.name for path in logs.iterdir()} == kept


def test_the_request_goes_after_the_files_of_a_log(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a1", "a1.0", "a1.1", "a1.removed"):
        (logs / name).write_text(RECORD)
    removed: list[str] = []
    unlink = Path.unlink

    def noted(path: Path, missing_ok: bool = False) -> None:
        removed.append(path.name)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", noted)
    logrotate.remove(logs / "a1")
    assert removed[-1] == "a1.removed"
    assert not list(logs.iterdir())


async def test_a_driver_that_has_gone_meanwhile_is_no_failure(
    logs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = Forwarder(logs, "host1", lambda _: True)
    async with asyncio.timeout(PATIENCE_S):
        await made._forward("a1")
    made.close()
    assert "logs.forward_failed" not in caplog.text
    assert not list(logs.iterdir())


def test_messages_that_no_datagram_holds_are_reported_once_and_not_counted(
    logs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (logs / "a1").write_text(RECORD * 2)
    huge = msgspec.structs.replace(
        to(Address("unixgram", path=str(tmp_path / "s"))), tag="x" * 1_000_000
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "s"))
        one = module._Forwarded(logs / "a1", huge, "host1", Names())
        outcome, _ = one.send(True)
        one.close()
    assert outcome is module._Outcome.DONE
    assert one.messages == 0
    assert caplog.text.count("logs.dropped id=a1") == 1


def test_a_server_that_reads_slowly_holds_no_thread_for_a_whole_batch(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH_S", -1.0)  # every message takes longer
    (logs / "a1").write_text(RECORD * 3)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "s"))
        address = Address("unixgram", path=str(tmp_path / "s"))
        one = module._Forwarded(logs / "a1", to(address), "host1", Names())
        outcomes = [one.send(True)[0] for _ in range(4)]
        one.close()
    assert outcomes == [module._Outcome.MORE] * 3 + [module._Outcome.DONE]
    assert one.messages == 3
