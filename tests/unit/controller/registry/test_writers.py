"""Collections of garbage beside connections that may push."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from controller.registry import upkeep
from controller.registry.upkeep import RegistryUpkeep
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.errors import Conflict, Unavailable


async def nothing() -> tuple[str, ...]:
    return ()


def made(root: Path, *collector: str) -> RegistryUpkeep:
    return RegistryUpkeep(root, 0, SystemClock(), lambda: list(collector))


async def test_an_idle_connection_keeps_no_collection_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "IDLE_S", 0.05)
    found = made(tmp_path)
    async with found.writing():
        assert await found.collect(nothing) == 0


async def test_a_busy_connection_does_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = made(tmp_path)
    monkeypatch.setattr(upkeep, "WAIT_S", 0.05)
    async with found.writing() as writer:
        writer.touch()
        with pytest.raises(Conflict, match="while 1 connection may push images"):
            await found.collect(nothing)
    assert await found.collect(nothing) == 0


async def test_who_sends_a_byte_now_and_then_keeps_it_away_for_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "HELD_S", 0.2)
    found = made(tmp_path)

    async def trickle() -> None:
        while True:
            writer.touch()
            await asyncio.sleep(0.01)

    async with found.writing() as writer:
        trickling = asyncio.create_task(trickle())
        assert await found.collect(nothing) == 0
        trickling.cancel()


async def test_an_idle_connection_waits_for_a_collection_before_its_next_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "IDLE_S", 0.0)
    blob = tmp_path / "docker/registry/v2/blobs/sha256/aa/aa/data"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"x")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    found = made(tmp_path, "cat", str(fifo))
    async with found.writing() as writer:
        collecting = asyncio.create_task(found.collect(nothing))
        opened = await asyncio.to_thread(fifo.open, "w")  # returns when the collector reads
        renewing = asyncio.create_task(writer.renew())
        writer.touch()
        done, _ = await asyncio.wait({renewing}, timeout=0.2)
        assert not done
        monkeypatch.setattr(upkeep, "WAIT_S", 0.01)
        with pytest.raises(Unavailable, match="try again later"):
            await writer.renew()
        opened.close()
        assert await collecting == 0
        await renewing


async def test_a_cancelled_measurement_leaves_no_thread_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = made(tmp_path)
    running, most = 0, 0
    may_end = threading.Event()

    def slow() -> list[tuple[str, str, str]]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        may_end.wait(20)
        running -= 1
        return []

    monkeypatch.setattr(found.storage, "tags", slow)
    calls = []
    for _ in range(3):
        calls.append(asyncio.create_task(found.tags()))
        await asyncio.sleep(0.02)
        calls[-1].cancel()
    may_end.set()
    await asyncio.wait(calls)
    assert await found.tags() == []
    assert (running, most) == (0, 1)


async def test_a_collection_whose_caller_leaves_keeps_pushes_away_until_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread goes on to remove manifests: one that is pushed meanwhile would go, too."""
    (blob := tmp_path / "docker/registry/v2/blobs/sha256/aa/aa/data").parent.mkdir(parents=True)
    blob.write_bytes(b"x")
    found = made(tmp_path, "true")
    begun, may_end = threading.Event(), threading.Event()

    def forget(_: object) -> None:
        begun.set()
        may_end.wait(30)

    monkeypatch.setattr(found, "_forget", forget)
    collecting = asyncio.create_task(found.collect(nothing))
    await asyncio.to_thread(begun.wait, 30)
    collecting.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    monkeypatch.setattr(upkeep, "WAIT_S", 0.01)
    with pytest.raises(Unavailable, match="try again later"):
        async with found.writing():
            pass
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await collecting
    monkeypatch.setattr(upkeep, "WAIT_S", 30)
    async with found.writing():
        pass


async def test_what_services_need_is_asked_once_nobody_pushes(tmp_path: Path) -> None:
    (blob := tmp_path / "docker/registry/v2/blobs/sha256/aa/aa/data").parent.mkdir(parents=True)
    blob.write_bytes(b"x")
    found, order = made(tmp_path, "true"), list[str]()

    async def needed() -> tuple[str, ...]:
        order.append("asked")
        return ()

    async with found.writing() as writer:
        writer.touch()
        collecting = asyncio.create_task(found.collect(needed))
        for _ in range(10):
            await asyncio.sleep(0)
        order.append("pushed")
    await collecting
    assert order == ["pushed", "asked"]
