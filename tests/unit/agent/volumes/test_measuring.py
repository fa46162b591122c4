"""Copies are measured one at a time, and each session is told what they use."""

import asyncio
import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.outbox import Outbox
from agent.runtime.base import RuntimeFailed
from agent.volumes import measuring
from agent.volumes.children import Children
from agent.volumes.measuring import Measuring
from agent.volumes.mounted import Mounts
from agent.volumes.store import VolumeStore
from pyswarm_core.clock import MINUTE, Instant
from pyswarm_core.volumes.volume import VolumeUsage


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = Instant(1_000 * MINUTE)

    def now(self) -> Instant:
        return self.at


class FakeChildren(Children):
    """Answers with the number of its calls, unless told to hang."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.hangs: set[str] = set()

    async def ask(self, work: str, limit: int = 0, **request: object) -> Mapping[str, Any]:
        volume_id = Path(str(request["path"])).parent.name
        self.asked.append(volume_id)
        if volume_id in self.hangs:
            raise RuntimeFailed("the file system has not answered for 2m")
        return {"bytes": len(self.asked) * 1_000, "inodes": len(self.asked)}


class Host:
    def __init__(self, tmp_path: Path) -> None:
        self.store = VolumeStore(tmp_path)
        self.store.prepare()
        self.clock, self.children, self.outbox = Hand(), FakeChildren(), Outbox()
        self.used: set[str] = set()
        self.mounts = Mounts(self.store, self.children)
        self.measuring = Measuring(
            self.store,
            self.mounts,
            self.children,
            outbox=self.outbox,
            used=lambda: self.used,
            clock=self.clock,
        )

    def make(self, volume_id: str) -> None:
        made = self.store.begin(volume_id)
        self.store.finish(volume_id, f"name-{volume_id}", made)

    async def step(self, times: int = 1) -> None:
        for _ in range(times):
            await self.measuring.step()

    def sizes(self) -> dict[str, int]:
        return {name: usage.bytes for name, usage in self.measuring.measured.values()}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


async def test_each_copy_is_measured_in_turn_and_again_after_five_minutes(host: Host) -> None:
    host.make("a")
    host.make("b")
    await host.step(4)
    assert sorted(host.children.asked) == ["a", "b"]
    host.clock.at = Instant(host.clock.at + 5 * MINUTE - 1)
    await host.step()
    assert len(host.children.asked) == 2
    host.clock.at = Instant(host.clock.at + 1)
    await host.step(3)
    assert len(host.children.asked) == 4
    assert sorted(host.sizes()) == ["name-a", "name-b"]


async def test_what_hangs_keeps_its_size_and_delays_no_other(host: Host) -> None:
    host.make("a")
    await host.step()
    host.children.hangs = {"a"}
    host.make("b")
    host.clock.at = Instant(host.clock.at + 5 * MINUTE)
    await host.step(4)
    assert host.sizes() == {"name-a": 1_000, "name-b": 3_000}
    assert host.children.asked == ["a", "a", "b"]


async def test_a_session_is_told_all_and_then_what_is_new(host: Host) -> None:
    host.make("a")
    host.make("b")
    await host.step(2)
    assert set(host.outbox.take_measured(1)) == {"a"}
    assert set(host.outbox.take_measured(10)) == {"b"}
    assert host.outbox.take_measured(10) == {}
    host.outbox.clear()
    async with asyncio.timeout(60):
        await host.outbox.wait()
    assert set(host.outbox.take_measured(10)) == {"a", "b"}
    host.outbox.volume_removed("a")
    host.outbox.clear()
    assert set(host.outbox.take_measured(10)) == {"b"}


async def test_when_a_container_began_or_ceased_to_use_it_is_reported(host: Host) -> None:
    host.make("a")
    await host.step()
    host.outbox.take_measured(10)

    async def at(minute: int) -> VolumeUsage | None:
        host.clock.at = Instant((1_000 + minute) * MINUTE)
        await host.step()
        return host.outbox.take_measured(10).get("a")

    host.used = {"a"}
    begun = await at(1)
    assert begun is not None
    assert (begun.bytes, begun.last_used_at) == (1_000, 1_001 * MINUTE)
    assert await at(2) is None
    host.used = set()
    ended = await at(3)
    assert ended is not None
    assert ended.last_used_at == 1_003 * MINUTE
    assert await at(4) is None


async def test_a_file_system_that_is_not_mounted_keeps_what_was_measured(host: Host) -> None:
    host.make("a")
    host.store.paths("a").image.touch()
    await host.step()
    assert host.children.asked == []
    host.mounts.mounted.add("a")
    host.clock.at = Instant(host.clock.at + 5 * MINUTE)
    await host.step()
    assert host.children.asked == ["a"]


async def test_a_removed_copy_is_forgotten(host: Host) -> None:
    host.make("a")
    await host.step()
    host.store.remove("a")
    await host.step()
    assert host.measuring.measured == {}


async def test_a_record_that_cannot_be_read_ends_no_measuring(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "PAUSE_S", 0)
    names, tried = host.store.names, 0

    def failing() -> dict[str, str]:
        nonlocal tried
        tried += 1
        if tried == 1:
            raise OSError(errno.EIO, "Input/output error")
        if tried == 2:
            b"\xff".decode()
        return names()

    monkeypatch.setattr(host.store, "names", failing)
    host.make("a")
    async with asyncio.TaskGroup() as group:
        running = group.create_task(host.measuring.run())
        while not host.sizes():  # noqa: ASYNC110  # another task measures
            await asyncio.sleep(0)
        running.cancel()
    assert host.sizes() == {"name-a": 1_000}
