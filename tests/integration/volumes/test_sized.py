"""Volumes with a size, moved and restored as a whole, on the real kernel: a file with ext4 takes
the place of the former one, whole or not at all.
"""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.volumes import tar as tar_module
from agent.volumes.child import mounts_below
from controller.leader.moves import copier
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, PyswarmError, Unavailable
from pyswarm_core.volumes.drivers import Backing
from tests.integration.volumes.disk import ID, Host
from tests.integration.volumes.rig import Rig, serving
from tests.integration.volumes.test_backups import backup, cp_in, cp_out, restore
from tests.integration.volumes.test_moves import begin, copying, until
from tests.unit.core.archives.test_round_trip import make_tree
from tests.unit.core.archives.trees import entry, tar, tree

MIB = 1 << 20
SIZE = 16 * MIB


@pytest.fixture(autouse=True)
def _unmounted(here: Host, there: Host) -> Iterator[None]:
    yield
    for host in (here, there):
        for point in mounts_below(str(host.state)):
            subprocess.run(["umount", "-l", point], check=True)


@pytest.fixture
async def rig(here: Host, there: Host) -> AsyncIterator[Rig]:
    async with serving(here, there) as made:
        volume = made.volume()
        sized = replace(volume, spec=replace(volume.spec, driver_opts={"size": "16m"}))
        made.desk.put(Writes(objects=(sized,)))
        yield made


async def opened(host: Host) -> Path:
    """The files of the volume, mounted as for a task."""
    return await host.volumes.mounts.ready(ID, "data", Backing(size=SIZE), None)


async def released(host: Host) -> None:
    """What an agent does once no container has the volume."""
    await host.volumes.release(ID, set)
    assert not mounts_below(str(host.state))


async def made(host: Host, text: str = "old") -> None:
    """A volume with one file, unmounted."""
    (await opened(host) / "file").write_text(text)
    await released(host)


async def content(host: Host) -> str:
    text = (await opened(host) / "file").read_text()
    await released(host)
    return text


def archive_of(text: str) -> bytes:
    return tar((entry("file"), text.encode()))


async def test_a_volume_with_a_size_moves_with_its_file_system(
    rig: Rig, here: Host, there: Host
) -> None:
    path = await opened(here)
    make_tree(path / "top")
    path.chmod(0o1770)
    os.chown(path, 26, 27)
    before = tree(path)
    await released(here)
    begin(rig)
    async with copying(rig):
        await until(lambda: rig.volume().work is None)
    assert rig.volume().failure == ""
    assert there.left() == ["_data", "image"]
    assert not mounts_below(str(there.state))
    path = await opened(there)
    assert tree(path) == before
    status, room = path.stat(), os.statvfs(path)
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o1770, 26, 27)
    assert (there.data.parent / "image").stat().st_size == SIZE
    assert SIZE // 2 < room.f_blocks * room.f_frsize < SIZE


async def test_a_backup_is_restored_over_a_copy_with_a_size(
    rig: Rig, here: Host, tmp_path: Path
) -> None:
    await made(here)
    assert await backup(rig, tmp_path / "data.tar.gz") == []  # it mounts the volume meanwhile
    await made(here, "changed")
    (await opened(here) / "more").touch()  # what is mounted still gives way
    await restore(rig, tmp_path / "data.tar.gz")
    assert here.left() == ["_data", "image"]
    assert await content(here) == "old"
    assert not (await opened(here) / "more").exists()


async def test_files_are_copied_into_a_volume_that_is_not_mounted_and_out_of_it(
    rig: Rig, here: Host, tmp_path: Path
) -> None:
    await made(here)
    (tmp_path / "new").write_text("new")
    await cp_in(rig, tmp_path / "new", "/")
    await released(here)
    await cp_out(rig, "/new", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "new"
    (tmp_path / "large").write_bytes(os.urandom(SIZE))
    with pytest.raises(PyswarmError, match=r"[Nn]o space left on device"):
        await cp_in(rig, tmp_path / "large", "/")
    assert await content(here) == "old"


async def test_an_archive_that_is_larger_than_the_volume_changes_nothing(
    rig: Rig, here: Host, tmp_path: Path
) -> None:
    await made(here)
    (tmp_path / "large.tar").write_bytes(tar((entry("large"), os.urandom(SIZE))))
    with pytest.raises(Conflict, match=r"does not fit into volume data, which has the size 16MiB"):
        await restore(rig, tmp_path / "large.tar")
    assert here.left() == ["_data", "image"]
    assert not mounts_below(str(here.state))
    assert await content(here) == "old"


async def test_many_small_files_that_need_more_inodes_than_there_are_change_nothing(
    here: Host,
) -> None:
    await made(here)
    with pytest.raises(Conflict, match="which has the size 16MiB"):
        await here.write(tar(*(entry(f"{number}") for number in range(9_000))), size=SIZE)
    assert await content(here) == "old"


async def test_a_move_that_is_cut_off_leaves_no_mount_and_no_file(
    rig: Rig, here: Host, there: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(here)
    with monkeypatch.context() as patch:
        patch.setattr(tar_module, "PACK", ("sh", "-c", "head -c 200000 /dev/zero; exec sleep 1000"))
        begin(rig)
        async with copying(rig):
            await until(lambda: there.data.parent.exists() and "receiving" in there.left())
    await until(lambda: there.left() == [])
    assert not mounts_below(str(there.state))
    monkeypatch.setattr(copier, "RETRY_S", (0.0, 0.0))
    async with copying(rig):
        await until(lambda: rig.volume().work is None)
    assert await content(there) == "old"


async def test_a_copy_that_is_being_read_is_replaced_afterwards(here: Host) -> None:
    await made(here)
    async with here.files.directory(ID, "data", SIZE) as path:
        writing = asyncio.ensure_future(here.write(archive_of("new"), size=SIZE))
        await until(lambda: here.volumes.alone(ID).locked() and "image.receiving" in here.left())
        assert (path / "file").read_text() == "old"
    await writing
    assert await content(here) == "new"


async def test_what_is_unpacked_is_not_unmounted_as_unused(here: Host) -> None:
    async with here.files.receiving(ID, "data", SIZE) as path:
        (path / "file").write_text("new")
        await here.volumes.release(ID, set)
        assert mounts_below(str(path))
        await here.files.replace(ID, "data")
    assert await content(here) == "new"


async def test_a_restarted_agent_removes_what_was_being_unpacked(here: Host) -> None:
    await made(here)
    path = await here.volumes.mounts.begin_receiving(ID, SIZE)
    (path / "half").write_text("half")
    here.volumes.mounts.mounted.clear()
    here.volumes.mounts.find()
    await here.files.tidy()
    assert here.left() == ["_data", "image"]
    assert not mounts_below(str(here.state))
    assert await content(here) == "old"


async def test_a_volume_whose_file_was_deleted_is_not_backed_up_as_empty(here: Host) -> None:
    await made(here)
    (here.data.parent / "image").unlink()
    with pytest.raises(Conflict, match="image is no file any more: restore it"):
        await here.read(size=SIZE)
    await here.write(archive_of("back"), size=SIZE)
    assert await content(here) == "back"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Host]:
    """A host with a disk of 4 MiB."""
    room = tmp_path / "disk"
    room.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "disk", str(room)], check=True)
    with closing(Host(room)) as host:
        yield host
    for point in mounts_below(str(room)):
        subprocess.run(["umount", "-l", point], check=True)


async def test_a_node_whose_disk_is_full_gets_no_copy(small: Host) -> None:
    with pytest.raises((Conflict, Unavailable)):
        await small.write(tar((entry("large"), os.urandom(8 * MIB))), size=SIZE)
    assert small.left() == []
    assert not mounts_below(str(small.state))
    assert not small.store.is_recorded(ID)
