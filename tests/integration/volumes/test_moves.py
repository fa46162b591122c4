"""The leader's copier between the agents of two hosts, over real gRPC."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from agent.volumes import tar
from controller.leader.moves import copier
from controller.leader.moves.copier import Copier
from pyswarm_core.decision import Writes
from pyswarm_core.volumes.volume import VolumeWork, VolumeWorkKind
from tests.fixtures.build import NOW
from tests.fixtures.desk import StoppedClock
from tests.integration.volumes.disk import WAIT_S, Host
from tests.integration.volumes.rig import NODES, Rig, serving
from tests.integration.volumes.test_whole import filled
from tests.unit.core.archives.trees import tree


@pytest.fixture
async def rig(here: Host, there: Host) -> AsyncIterator[Rig]:
    async with serving(here, there) as made:
        yield made


@asynccontextmanager
async def copying(rig: Rig) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(Copier(rig.desk, StoppedClock()).run())
        yield
        task.cancel()


def begin(rig: Rig) -> None:
    work = VolumeWork(kind=VolumeWorkKind.MOVE, to=NODES[1], started_at=NOW)
    rig.desk.put(Writes(objects=(replace(rig.volume(), work=work),)))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_volume_moves_with_everything(rig: Rig, here: Host, there: Host) -> None:
    before = tree(filled(here))
    begin(rig)
    async with copying(rig):
        await until(lambda: rig.volume().work is None)
    volume = rig.volume()
    assert (volume.copies, volume.leaving, volume.failure) == ((NODES[1],), (NODES[0],), "")
    assert tree(there.data) == before
    assert there.left() == ["_data"]


async def test_large_files_move(rig: Rig, here: Host, there: Host) -> None:
    with (here.make() / "large").open("wb") as file:
        for number in range(64):
            file.write(bytes([number]) * (1 << 20))
    begin(rig)
    async with copying(rig):
        await until(lambda: rig.volume().work is None)
    assert (there.data / "large").read_bytes() == (here.data / "large").read_bytes()


async def test_a_volume_that_nobody_mounted_yet_moves(rig: Rig, there: Host) -> None:
    begin(rig)
    async with copying(rig):
        await until(lambda: rig.volume().work is None)
    assert rig.volume().copies == (NODES[1],)
    assert not there.data.exists()


async def test_a_destination_that_cannot_have_it_keeps_the_source(
    rig: Rig, here: Host, there: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(filled(here))
    there.tasks = ["db.1.a"]
    begin(rig)
    async with copying(rig):
        await until(lambda: rig.volume().work is None)
    assert rig.volume().copies == (NODES[0],)
    assert rig.volume().failure.startswith("volume data is mounted by db.1.a")
    assert tree(here.data) == before


async def test_a_leader_that_ends_in_the_middle_is_followed_by_one_that_begins_again(
    rig: Rig, here: Host, there: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(filled(here))
    with monkeypatch.context() as patch:
        patch.setattr(tar, "PACK", ("sh", "-c", "head -c 200000 /dev/zero; exec sleep 1000"))
        begin(rig)
        async with copying(rig):
            await until(lambda: bool(there.data.parent.exists() and there.left()))
    await until(lambda: there.left() == [])
    assert rig.volume().work is not None
    async with copying(rig):
        await until(lambda: rig.volume().work is None)
    assert tree(there.data) == before


async def test_an_archive_that_breaks_is_sent_again(
    rig: Rig, here: Host, there: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copier, "RETRY_S", (0.0, 1.0))
    before, words = tree(filled(here)), tar.PACK
    monkeypatch.setattr(tar, "PACK", ("sh", "-c", "echo cut >&2; exit 2"))
    begin(rig)
    async with copying(rig):
        await until(lambda: any(one.attempt == 2 for one in rig.desk.moves.values()))
        monkeypatch.setattr(tar, "PACK", words)
        await until(lambda: rig.volume().work is None)
    assert tree(there.data) == before
