"""`volume backup`, `restore` and `cp` over the whole path of a byte stream."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from cli.container.files import local
from cli.container.files.local import Arrival, Departure
from cli.volume.archiving import archives, streaming
from cli.volume.archiving.archives import Source
from cli.volume.archiving.progress import Progress
from controller.api.relaying import volumes
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, InvalidArgument, NotFound
from pyswarm_core.states import NodeState
from pyswarm_core.streams.requests import ReadVolumeRequest, WriteVolumeRequest
from tests.integration.volumes.disk import WAIT_S, Host
from tests.integration.volumes.rig import NODES, Rig, serving
from tests.integration.volumes.test_moves import until
from tests.integration.volumes.test_whole import filled
from tests.unit.core.archives.test_round_trip import make_tree
from tests.unit.core.archives.trees import tree


@pytest.fixture
async def rig(here: Host, there: Host) -> AsyncIterator[Rig]:
    async with serving(here, there) as made:
        yield made


async def backup(rig: Rig, path: Path, *, hold: bool = False) -> list[str]:
    notices: list[str] = []
    archives.check_output(str(path))
    with rig.client() as client:
        async with asyncio.timeout(WAIT_S):
            request = ReadVolumeRequest(ref="data", hold=hold)
            progress = Progress(shown=False)
            await streaming.backup(client, request, str(path), progress, notices.append)
    return notices


async def restore(rig: Rig, path: Path, *, node: str = "", hold: bool = False) -> int:
    with rig.client() as client:
        async with asyncio.timeout(WAIT_S):
            request = WriteVolumeRequest(ref="data", node=node, hold=hold)
            return await streaming.restore(
                client, request, Source(str(path)), Progress(shown=False)
            )


@pytest.mark.parametrize("name", ["data.tar", "data.tar.gz", "data.tgz", "data.tar.zst"])
async def test_a_backup_is_restored(rig: Rig, here: Host, tmp_path: Path, name: str) -> None:
    before = tree(filled(here))
    assert await backup(rig, tmp_path / name) == []
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    (here.data / "file").unlink()
    (here.data / "new").touch()
    await restore(rig, tmp_path / name)
    assert tree(here.data) == before
    assert here.left() == ["_data"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, "here", "there"]


async def cp_in(rig: Rig, source: Path, path: str) -> None:
    departure = Departure(str(source), keep=True, follow=False)
    request = WriteVolumeRequest(
        ref="data",
        path=path,
        name=departure.name,
        directory=departure.is_directory,
        archive=departure.is_archive,
    )
    with rig.client() as client:
        async with asyncio.timeout(WAIT_S):
            await local.from_files(client, request, departure)


async def cp_out(rig: Rig, path: str, target: Path) -> None:
    with rig.client() as client:
        async with asyncio.timeout(WAIT_S):
            arrival = Arrival(path, str(target), keep=True)
            await local.to_files(client, ReadVolumeRequest(ref="data", path=path), arrival)


async def test_files_are_copied_into_a_volume_that_is_mounted_and_out_of_it(
    rig: Rig, here: Host, tmp_path: Path
) -> None:
    here.make()
    here.tasks = ["db.1.a"]
    source = make_tree(tmp_path / "top")
    (source / "up").unlink()
    await cp_in(rig, source, "/")
    assert tree(here.data / "top") == tree(source)
    await cp_in(rig, source / "file", "top/renamed")
    assert (here.data / "top" / "renamed").read_bytes() == b"hello"
    await cp_out(rig, "/top", tmp_path / "back")
    assert (tmp_path / "back" / "renamed").read_bytes() == b"hello"
    (here.data / "out").symlink_to("/etc")
    with pytest.raises(NotFound, match="no such file or directory"):
        await cp_out(rig, "/out/passwd", tmp_path / "secret")
    assert not (tmp_path / "secret").exists()
    with pytest.raises(NotFound, match="no such file or directory"):
        await cp_out(rig, "/../../../etc/passwd", tmp_path / "secret")
    assert here.left() == ["_data"]


async def test_a_volume_that_is_mounted_is_backed_up_with_a_notice(
    rig: Rig, here: Host, tmp_path: Path
) -> None:
    before = tree(filled(here))
    here.tasks = ["db.1.a"]
    (notice,) = await backup(rig, tmp_path / "data.tar")
    assert "volume data is mounted by db.1.a: files that change meanwhile may not" in notice
    with pytest.raises(Conflict, match=r"is mounted by db\.1\.a: stop them, or use --stop"):
        await restore(rig, tmp_path / "data.tar")
    assert tree(here.data) == before


@pytest.mark.parametrize("name", ["data.tar", "data.tar.gz", "data.tar.zst"])
async def test_a_damaged_backup_changes_nothing(
    rig: Rig, here: Host, tmp_path: Path, name: str
) -> None:
    before = tree(filled(here))
    await backup(rig, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[: len(whole) // 4], b"no archive" * 1000):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises((InvalidArgument, Conflict)):
            await restore(rig, tmp_path / name)
        assert tree(here.data) == before
        await until(lambda: here.left() == ["_data"])
    assert rig.volume().work is None


async def test_a_volume_without_a_copy_is_restored_where_it_is_asked(
    rig: Rig, here: Host, there: Host, tmp_path: Path
) -> None:
    before = tree(filled(here))
    await backup(rig, tmp_path / "data.tar")
    rig.desk.put(Writes(objects=(replace(rig.volume(), copies=()),)))
    (tmp_path / "broken").write_bytes(b"no archive" * 1000)
    with pytest.raises(InvalidArgument):
        await restore(rig, tmp_path / "broken", node="n2")
    assert (rig.volume().copies, rig.volume().leaving) == ((), (NODES[1],))
    rig.desk.put(Writes(objects=(replace(rig.volume(), leaving=()),)))
    await restore(rig, tmp_path / "data.tar", node="n2")
    assert tree(there.data) == before
    assert (rig.volume().copies, rig.volume().work) == ((NODES[1],), None)


async def test_a_copy_on_a_lost_node_is_replaced_by_a_backup(
    rig: Rig, here: Host, there: Host, tmp_path: Path
) -> None:
    before = tree(filled(here))
    await backup(rig, tmp_path / "data.tar")
    with pytest.raises(Conflict, match="is ready and has the copy"):
        await restore(rig, tmp_path / "data.tar", node="n2")
    node = rig.desk.state.nodes[NODES[0]]
    down = replace(node, status=replace(node.status, state=NodeState.DOWN))
    rig.desk.put(Writes(objects=(down,)))
    await restore(rig, tmp_path / "data.tar", node="n2")
    assert tree(there.data) == before
    volume = rig.volume()
    assert (volume.copies, volume.forgotten, volume.work) == ((NODES[1],), (NODES[0],), None)


async def test_a_hold_lasts_as_long_as_the_stream(
    rig: Rig, here: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "EXTEND_PERIOD_S", 0.0)
    filled(here)
    seen: list[bool] = []
    ask = rig.dial_back

    def asked(*args: Any) -> None:
        seen.append(rig.volume().work is not None)
        ask(*args)

    rig.desk.tunnels._ask = asked
    await backup(rig, tmp_path / "data.tar", hold=True)
    await restore(rig, tmp_path / "data.tar", hold=True)
    assert seen == [True, True]
    assert rig.volume().work is None
    (tmp_path / "data.tar").write_bytes(b"no archive" * 1000)
    with pytest.raises(InvalidArgument):
        await restore(rig, tmp_path / "data.tar", hold=True)
    assert rig.volume().work is None
