"""New volumes filled from real image layers, on a real file system."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.runtime.base import RuntimeFailed
from agent.tasks.record import Record
from agent.volumes import filling
from agent.volumes.store import VolumeStore
from agent.volumes.volumes import Volumes
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.specs import ContainerSpec, TaskSpec
from pyswarm_core.volumes.mounts import Mount, VolumeOptions

LAYERS = ("upper", "lower")


@pytest.fixture
def layers(tmp_path: Path) -> tuple[str, ...]:
    """An image of two layers: /data with files of both, /link that leads to it, and links out."""
    upper, lower = (tmp_path / "image" / name for name in LAYERS)
    for layer in (upper, lower):
        (layer / "data").mkdir(parents=True)
    (lower / "data" / "low").write_text("low")
    (lower / "data" / "hidden").write_text("hidden")
    (upper / "data" / "up").write_text("up")
    os.mknod(upper / "data" / "hidden", 0o600 | 0o020000, os.makedev(0, 0))  # a whiteout
    os.chown(upper / "data" / "up", 70, 71)
    (upper / "data" / "up").chmod(0o4750)
    os.link(upper / "data" / "up", upper / "data" / "same")
    os.setxattr(upper / "data" / "up", "user.note", b"kept")
    (upper / "data" / "out").symlink_to("/etc/passwd")
    os.mkfifo(upper / "data" / "pipe")
    os.chown(upper / "data", 70, 70)
    (upper / "data").chmod(0o1770)
    (upper / "link").symlink_to("/data")
    (upper / "up_and_out").symlink_to("../../../../../../etc")
    return str(upper), str(lower)


@pytest.fixture
def volumes(tmp_path: Path) -> Iterator[Volumes]:
    store = VolumeStore(tmp_path / "state")
    store.prepare()
    (tmp_path / "run").mkdir()
    found = Volumes(store, tmp_path / "run", lambda task_id: tmp_path / "state" / task_id)
    yield found
    found.close()
    assert list((tmp_path / "run").iterdir()) == []


def record(*mounts: Mount, name: str = "t1") -> Record:
    container = ContainerSpec(image="web", mounts=mounts)
    return Record(
        task_id=TaskId(name),
        service_id=ServiceId("db"),
        service_name="db",
        slot=1,
        node_id=NodeId("n1"),
        spec=TaskSpec(container_spec=container),
        volumes={mount.source: f"id{mount.source}" for mount in mounts if mount.source},
    )


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def run(*words: str) -> None:
    subprocess.run(words, check=True)


async def path_of(volumes: Volumes, layers: tuple[str, ...], mount: Mount) -> Path:
    found = await volumes.ready(record(mount), layers, lambda text: None)
    return Path(found[mount.target])


async def test_a_new_volume_has_files_owners_modes_links_and_attributes_of_the_image(
    volumes: Volumes, layers: tuple[str, ...], tmp_path: Path
) -> None:
    path = await path_of(volumes, layers, Mount(source="data", target="/data"))
    assert path == tmp_path / "state" / "volumes" / "iddata" / "_data"
    assert names(path) == ["low", "out", "pipe", "same", "up"]
    top, up = path.stat(), (path / "up").stat()
    assert (top.st_uid, top.st_gid, top.st_mode & 0o7777) == (70, 70, 0o1770)
    assert (up.st_uid, up.st_gid, up.st_mode & 0o7777, up.st_nlink) == (70, 71, 0o4750, 2)
    assert os.getxattr(path / "up", "user.note") == b"kept"
    assert (path / "out").readlink() == Path("/etc/passwd")
    assert (path / "pipe").is_fifo()


async def test_a_volume_is_filled_once(volumes: Volumes, layers: tuple[str, ...]) -> None:
    mount = Mount(source="data", target="/data")
    path = await path_of(volumes, layers, mount)
    (path / "low").write_text("changed")
    (path / "up").unlink()
    again = await path_of(volumes, layers, mount)
    assert (again / "low").read_text() == "changed"
    assert not (again / "up").exists()


async def test_two_tasks_at_once_make_one_copy(volumes: Volumes, layers: tuple[str, ...]) -> None:
    mount = Mount(source="data", target="/data")
    paths = await asyncio.gather(*(path_of(volumes, layers, mount) for _ in range(8)))
    assert len({*paths}) == 1
    assert (paths[0] / "up").exists()


@pytest.mark.parametrize(
    "mount",
    [
        Mount(source="data", target="/data", volume_options=VolumeOptions(no_copy=True)),
        Mount(source="data", target="/no/such"),
        Mount(source="data", target="/data/low"),  # a file
    ],
)
async def test_it_is_empty_without_a_directory_of_the_image_or_with_nocopy(
    volumes: Volumes, layers: tuple[str, ...], mount: Mount
) -> None:
    path = await path_of(volumes, layers, mount)
    assert names(path) == []
    assert path.stat().st_mode & 0o7777 == 0o755


async def test_links_of_the_image_are_followed_beneath_its_root_alone(
    volumes: Volumes, layers: tuple[str, ...]
) -> None:
    path = await path_of(volumes, layers, Mount(source="data", target="/link"))
    assert "up" in names(path)
    outside = await path_of(volumes, layers, Mount(source="other", target="/up_and_out"))
    assert names(outside) == []  # the image has no /etc, and the host's is none of its


async def test_an_image_of_one_layer_fills_too(volumes: Volumes, layers: tuple[str, ...]) -> None:
    path = await path_of(volumes, layers[1:], Mount(source="data", target="/data"))
    assert names(path) == ["hidden", "low"]


async def test_an_anonymous_volume_is_the_task_s_own(
    volumes: Volumes, layers: tuple[str, ...], tmp_path: Path
) -> None:
    mounts = (Mount(target="/data"), Mount(target="/empty"))
    found = await volumes.ready(record(*mounts), layers, lambda text: None)
    assert found["/data"] == str(tmp_path / "state" / "t1" / "0")
    assert "up" in names(Path(found["/data"]))
    assert names(Path(found["/empty"])) == []


async def test_a_volume_that_the_controller_did_not_name_is_refused(
    volumes: Volumes, layers: tuple[str, ...]
) -> None:
    asked = record(Mount(source="data", target="/data"))
    asked.volumes.clear()
    with pytest.raises(RuntimeFailed, match="the controller has no volume of that name"):
        await volumes.ready(asked, layers, lambda text: None)


async def test_a_full_disk_fails_the_task_and_the_next_one_fills_it_whole(
    volumes: Volumes, layers: tuple[str, ...], tmp_path: Path
) -> None:
    (Path(layers[0]) / "data" / "large").write_bytes(b"x" * (1 << 20))
    state = tmp_path / "state" / "volumes"
    run("mount", "-t", "tmpfs", "-o", "size=256k", "disk", str(state))
    try:
        mount = Mount(source="data", target="/data")
        with pytest.raises(RuntimeFailed, match=r"volume data cannot be filled.*No space left"):
            await path_of(volumes, layers, mount)
        run("mount", "-o", "remount,size=8m", str(state))
        path = await path_of(volumes, layers, mount)
        assert (path / "large").stat().st_size == 1 << 20
    finally:
        run("umount", str(state))


async def test_a_fill_ends_with_its_task(
    volumes: Volumes, layers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slow = tmp_path / "bin"
    slow.mkdir()
    (slow / "cp").write_text("#!/bin/sh\nexec sleep 1000\n")
    (slow / "cp").chmod(0o755)
    monkeypatch.setattr(filling, "PATH", f"{slow}:/usr/bin:/bin")
    work = asyncio.create_task(path_of(volumes, layers, Mount(source="data", target="/data")))
    async with asyncio.timeout(20):
        while not _runs(slow):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    work.cancel()
    await asyncio.wait([work])
    assert work.cancelled()
    monkeypatch.undo()
    path = await path_of(volumes, layers, Mount(source="data", target="/data"))
    assert (path / "up").exists()


def _runs(slow: Path) -> bool:
    return any(
        b"sleep\x001000" in _words(entry) and str(slow).encode() in _environment(entry)
        for entry in Path("/proc").glob("[0-9]*")
    )


def _words(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


def _environment(entry: Path) -> bytes:
    try:
        return (entry / "environ").read_bytes()
    except OSError:
        return b""
