"""Copies between this machine and a real container, over the whole path of a byte stream."""

import asyncio
import io
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.files.copying import Copies
from cli.client import Client
from cli.container.files import local
from cli.container.files.local import Arrival, Departure
from cli.errors import Broken
from pyswarm_core.errors import Conflict, InvalidArgument, NotFound, PyswarmError
from pyswarm_core.streams.requests import CopyOutRequest, ExportRequest
from tests.integration.streams.conftest import WAIT_S, Rig
from tests.integration.streams.stdio import fed
from tests.unit.core.archives.test_hostile import HOSTILE
from tests.unit.core.archives.test_round_trip import HOLE, make_tree
from tests.unit.core.archives.trees import entry, tar, tree


async def copy_in(
    rig: Rig, source: str, path: str, *, keep: bool = False, follow: bool = False
) -> int:
    departure = Departure(source, keep=keep, follow=follow)
    with Client(rig.address) as client:
        async with asyncio.timeout(WAIT_S):
            return await local.from_files(client, departure.request("web.1", path), departure)


async def copy_out(
    rig: Rig, path: str, destination: str, *, keep: bool = False, follow: bool = False
) -> int:
    arrival = Arrival(path, destination, keep=keep)
    request = CopyOutRequest(ref="web", path=path, follow=follow)
    with Client(rig.address) as client:
        async with asyncio.timeout(WAIT_S):
            return await local.to_files(client, request, arrival)


async def archive_of(rig: Rig, request: CopyOutRequest | ExportRequest, target: Path) -> Path:
    with target.open("wb") as file, Client(rig.address) as client:
        async with asyncio.timeout(WAIT_S):
            await local.to_descriptor(client, request, file.fileno())
    return target


def files_of(rig: Rig, path: str) -> Path:
    return rig.world.layout.bundle("a1") / "rootfs" / path


async def test_a_tree_goes_in_and_comes_out_as_it_was(rig: Rig, tmp_path: Path) -> None:
    await rig.run()
    top = make_tree(tmp_path / "top")
    (top / "up").unlink()
    (top / "program").chmod(0o755)
    os.chown(top / "file", 1234, 5678)
    with (top / "sparse").open("wb") as file:
        file.seek(HOLE - 6)
        file.write(b"at end")
    size = await copy_in(rig, str(top), "/srv", keep=True)
    assert size < 4 << 20
    assert tree(files_of(rig, "srv")) == tree(top)
    assert await copy_out(rig, "/srv", str(tmp_path / "back"), keep=True) < 4 << 20
    assert tree(tmp_path / "back") == tree(top)
    assert (tmp_path / "back" / "sparse").stat().st_blocks * 512 < 1 << 20


async def test_owners_are_roots_inside_and_the_callers_here(rig: Rig, tmp_path: Path) -> None:
    await rig.run()
    (tmp_path / "file").write_bytes(b"hello")
    os.chown(tmp_path / "file", 1234, 5678)
    await copy_in(rig, str(tmp_path / "file"), "/tmp/file")
    status = files_of(rig, "tmp/file").stat()
    assert (status.st_uid, status.st_gid) == (0, 0)
    os.chown(files_of(rig, "tmp/file"), 4321, 8765)
    files_of(rig, "tmp/file").chmod(0o4755)
    await copy_out(rig, "/tmp/file", str(tmp_path / "back"))
    status = (tmp_path / "back").stat()
    assert (status.st_uid, status.st_mode & 0o7777) == (os.geteuid(), 0o755)


async def test_a_stopped_container_has_files_too(rig: Rig, tmp_path: Path) -> None:
    await rig.run("/bin/true")
    rig.alive = False
    (tmp_path / "file").write_bytes(b"hello")
    await copy_in(rig, str(tmp_path / "file"), "/tmp/")
    await copy_out(rig, "/tmp/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == b"hello"


async def test_large_files_pass_and_memory_is_bounded(rig: Rig, tmp_path: Path) -> None:
    await rig.run()
    with (tmp_path / "large").open("wb") as file:
        for number in range(64):
            file.write(bytes([number]) * (1 << 20))
    await copy_in(rig, str(tmp_path / "large"), "/tmp/large")
    await copy_out(rig, "/tmp/large", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (tmp_path / "large").read_bytes()


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_archive_on_stdin_is_refused_whole(rig: Rig, name: str) -> None:
    await rig.run()
    before = tree(files_of(rig, ""), times=False)
    with fed(HOSTILE[name]), pytest.raises(InvalidArgument, match="archive is refused"):
        await copy_in(rig, "-", "/tmp")
    assert tree(files_of(rig, ""), times=False) == before


async def test_an_archive_on_stdin_keeps_its_owners(rig: Rig) -> None:
    await rig.run()
    info = entry("a/file")
    info.uid, info.gid = 7, 8
    with fed(tar((info, b"hello"))):
        await copy_in(rig, "-", "/tmp")
    status = files_of(rig, "tmp/a/file").stat()
    assert (status.st_uid, status.st_gid) == (7, 8)


class _Hostile(Copies):
    """An agent or container that sends any archive."""

    archive = b""

    def out(self, rootfs: Any, path: str, *, follow: bool) -> Any:
        rootfs.close()

        async def parts() -> AsyncIterator[bytes]:
            yield self.archive

        return parts()


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_archive_of_a_container_is_refused_whole(
    rig: Rig, tmp_path: Path, name: str
) -> None:
    await rig.run()
    rig.streams._copies = hostile = _Hostile()
    hostile.archive = HOSTILE[name]
    there = tmp_path / "a" / "there"
    there.mkdir(parents=True)
    before = tree(tmp_path, times=False)
    with pytest.raises(InvalidArgument, match="archive is refused"):
        await copy_out(rig, "/tmp/.", str(there))
    assert tree(tmp_path, times=False) == before


async def test_an_archive_of_another_name_than_requested_is_refused(
    rig: Rig, tmp_path: Path
) -> None:
    await rig.run()
    rig.streams._copies = hostile = _Hostile()
    hostile.archive = tar((entry(".bashrc"), b"evil"))
    with pytest.raises(InvalidArgument, match="not part of"):
        await copy_out(rig, "/tmp/file", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


async def test_dockers_rules_for_destinations(rig: Rig, tmp_path: Path) -> None:
    await rig.run()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"hello")
    await copy_in(rig, f"{tmp_path}/d", "/new")
    await copy_in(rig, f"{tmp_path}/d", "/new")
    await copy_in(rig, f"{tmp_path}/d/.", "/tmp")
    await copy_in(rig, f"{tmp_path}/d/f", "/new/renamed")
    inside = {str(path.relative_to(files_of(rig, ""))) for path in files_of(rig, "").rglob("*")}
    assert {"new/f", "new/d/f", "tmp/f", "new/renamed"} <= inside
    await copy_out(rig, "/new", f"{tmp_path}/out")
    await copy_out(rig, "/new/f", f"{tmp_path}/out/")
    await copy_out(rig, "/new/.", f"{tmp_path}/d")
    assert (tmp_path / "out" / "d" / "f").exists()
    assert (tmp_path / "d" / "d" / "f").exists()
    with pytest.raises(NotFound, match="no such directory"):
        await copy_in(rig, f"{tmp_path}/d/f", "/none/")
    with pytest.raises(InvalidArgument, match="cannot copy a directory"):
        await copy_in(rig, f"{tmp_path}/d", "/new/f")
    with pytest.raises(InvalidArgument, match="cannot copy a directory"):
        await copy_out(rig, "/new", f"{tmp_path}/d/f")
    with pytest.raises(NotFound, match="no such directory"):
        await copy_out(rig, "/new/f", f"{tmp_path}/none/f")
    with pytest.raises(NotFound, match="no such file"):
        await copy_out(rig, "/none", str(tmp_path))
    with pytest.raises(FileNotFoundError):
        await copy_in(rig, f"{tmp_path}/none", "/tmp")


async def test_a_device_here_is_not_replaced(rig: Rig) -> None:
    await rig.run()
    with pytest.raises(Conflict, match="device, socket or pipe"):
        await copy_out(rig, "/etc/passwd", "/dev/null")
    assert Path("/dev/null").is_char_device()


async def test_links_are_copied_or_followed(rig: Rig, tmp_path: Path) -> None:
    await rig.run()
    (tmp_path / "file").write_bytes(b"hello")
    (tmp_path / "link").symlink_to("file")
    await copy_in(rig, f"{tmp_path}/link", "/tmp/link")
    await copy_in(rig, f"{tmp_path}/link", "/tmp/followed", follow=True)
    assert files_of(rig, "tmp/link").is_symlink()
    assert files_of(rig, "tmp/followed").read_bytes() == b"hello"
    files_of(rig, "tmp/link").unlink()
    files_of(rig, "tmp/link").symlink_to("followed")
    await copy_out(rig, "/tmp/link", f"{tmp_path}/a")
    await copy_out(rig, "/tmp/link", f"{tmp_path}/b", follow=True)
    assert (tmp_path / "a").is_symlink()
    assert (tmp_path / "b").read_bytes() == b"hello"


async def test_a_file_as_an_archive(rig: Rig, tmp_path: Path) -> None:
    await rig.run()
    request = CopyOutRequest(ref="web.1", path="/etc/passwd")
    archive = await archive_of(rig, request, tmp_path / "tar")
    with tarfile.open(archive) as read:
        assert read.getnames() == ["passwd"]


async def test_an_export_is_a_whole_root_file_system(rig: Rig, tmp_path: Path) -> None:
    await rig.run(script="echo x > /new; exec sleep 1000")
    archive = await archive_of(rig, ExportRequest(ref="web"), tmp_path / "tar")
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as read:
        assert {"bin/busybox", "etc/passwd", "proc"} <= set(read.getnames())


async def test_a_copy_of_which_the_agent_dies_is_broken_and_leaves_nothing(
    rig: Rig, tmp_path: Path
) -> None:
    await rig.run()

    class _Dies(_Hostile):
        def out(self, rootfs: Any, path: str, *, follow: bool) -> Any:
            rootfs.close()

            async def parts() -> AsyncIterator[bytes]:
                yield tar((entry("file"), b"x" * 100_000))[:50_000]
                rig.desk.tunnels.close()
                await asyncio.get_running_loop().create_future()

            return parts()

    rig.streams._copies = _Dies()
    with pytest.raises((Broken, PyswarmError)):
        await copy_out(rig, "/tmp/file", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


async def test_an_interrupted_copy_leaves_nothing_here(rig: Rig, tmp_path: Path) -> None:
    await rig.run()
    arrived = asyncio.Event()

    class _Stalls(_Hostile):
        def out(self, rootfs: Any, path: str, *, follow: bool) -> Any:
            rootfs.close()

            async def parts() -> AsyncIterator[bytes]:
                yield tar((entry("file"), b"x" * 100_000))[:50_000]
                arrived.set()
                await asyncio.get_running_loop().create_future()

            return parts()

    rig.streams._copies = _Stalls()
    copying = asyncio.create_task(copy_out(rig, "/tmp/file", str(tmp_path)))
    await arrived.wait()
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    assert list(tmp_path.iterdir()) == []
