"""Copies out of real containers and into them: running, stopped and hostile ones."""

import asyncio
import os
import tarfile
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent.files.changes import changes
from agent.files.copying import Copies
from agent.runtime.base import ContainerState, Rootfs, RuntimeFailed
from pyswarm_core.aio.archives.entries import Refused, Source
from pyswarm_core.aio.archives.feeding import Feed
from pyswarm_core.aio.archives.limits import COPIES_AT_ONCE, COPY_IDLE_S
from pyswarm_core.errors import Conflict, Exhausted, InvalidArgument, NotFound, Unavailable
from tests.fixtures.runtime_contract import until
from tests.integration.runtime.conftest import RealWorld
from tests.integration.runtime.test_files import started
from tests.unit.core.archives.test_hostile import HOSTILE
from tests.unit.core.archives.test_round_trip import HOLE, KEEP, make_tree
from tests.unit.core.archives.trees import entry, packed, tar, tree, unpacked

A_FILE = Source("f", is_directory=False)
EVIL = tar((entry("f"), b"evil"))


@pytest.fixture
async def copies() -> AsyncIterator[Copies]:
    before = open_directories()
    made = Copies()
    yield made
    made.close()
    assert open_directories() == before


def open_directories() -> list[str]:
    """The directories of containers and tests that this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            target = str(link.readlink())
            found += [target] if "rootfs" in target or target == "/" else []
    return sorted(found)


async def out(world: RealWorld, copies: Copies, path: str, *, follow: bool = False) -> bytes:
    rootfs = await world.runtime.rootfs("a1")
    return b"".join([part async for part in copies.out(rootfs, path, follow=follow)])


async def into(
    world: RealWorld, copies: Copies, path: str, source: Source | None, archive: bytes
) -> None:
    await fill(copies, await world.runtime.rootfs("a1"), path, archive, source)


async def fill(
    copies: Copies, rootfs: Rootfs, path: str, archive: bytes, source: Source | None = None
) -> None:
    feed = Feed()

    async def send() -> None:
        for at in range(0, len(archive), 100_000):
            await feed.write(archive[at : at + 100_000])
        await feed.end()

    sending = asyncio.create_task(send())
    try:
        await copies.into(rootfs, path, source, feed)
    finally:
        sending.cancel()


async def stopped(world: RealWorld, command: Sequence[str] = ("/bin/true",)) -> None:
    """The container a1 has run the command and ended."""
    await world.runtime.create(world.custom("a1", tuple(command)))
    await world.runtime.start("a1")

    async def has_ended() -> bool:
        (found,) = await world.runtime.found()
        return found.state is ContainerState.STOPPED

    await until(has_ended)


def files_of(world: RealWorld, path: str) -> Path:
    """The files of the container a1 as its host sees them."""
    return world.layout.bundle("a1") / "rootfs" / path


@pytest.mark.parametrize("runs", [True, False])
async def test_a_tree_goes_in_and_comes_out_as_it_was(
    world: RealWorld, copies: Copies, tmp_path: Path, runs: bool
) -> None:
    top = make_tree(tmp_path / "top")
    (top / "up").unlink()
    os.chown(top / "file", 1234, 5678)
    with (top / "sparse").open("wb") as file:
        file.seek(HOLE - 6)
        file.write(b"at end")
    await (started(world, "true") if runs else stopped(world))
    await into(world, copies, "/", Source("top", is_directory=True), packed(top, "top"))
    inside = files_of(world, "top")
    assert tree(inside) == tree(top)
    assert (inside / "sparse").stat().st_blocks * 512 < 1 << 20
    archive = await out(world, copies, "/top")
    assert len(archive) < 4 << 20
    (tmp_path / "there").mkdir()
    unpacked(archive, tmp_path / "there", rights=KEEP)
    assert tree(tmp_path / "there" / "top") == tree(top)


async def test_the_container_sees_what_was_copied(world: RealWorld, copies: Copies) -> None:
    script = "while ! [ -s /tmp/new ]; do sleep 0.05; done; busybox cp /tmp/new /tmp/seen"
    command = ("/bin/sh", "-c", f"{script}; exec sleep 1000")
    await world.runtime.create(world.custom("a1", command))
    await world.runtime.start("a1")
    archive = tar((entry("file"), b"hello"))
    await into(world, copies, "/tmp/new", Source("file", is_directory=False), archive)

    async def is_seen() -> bool:
        seen = files_of(world, "tmp/seen")
        return seen.exists() and seen.read_bytes() == b"hello"

    await until(is_seen)


@pytest.mark.parametrize("runs", [True, False])
@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_archive_changes_nothing(
    world: RealWorld, copies: Copies, name: str, runs: bool
) -> None:
    await (started(world, "true") if runs else stopped(world))
    files_of(world, "tmp/there").write_bytes(b"old")
    before = tree(files_of(world, ""), times=False)
    with pytest.raises(Refused):
        await into(world, copies, "/tmp", None, HOSTILE[name])
    assert tree(files_of(world, ""), times=False) == before


async def test_links_of_the_container_lead_to_nothing_outside_of_it(
    world: RealWorld, copies: Copies, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(b"secret of the host")
    (tmp_path / "folder").mkdir()
    up = "../" * 20
    script = (
        f"ln=busybox; $ln ln -s {tmp_path}/secret /one; $ln ln -s {up}{tmp_path}/secret /two"
        f"; $ln ln -s {tmp_path}/folder /folder; $ln ln -s /proc/1/root /magic"
        f"; $ln mkdir -p /inside; $ln ln -s {up}inside /in"
    )
    await started(world, script)
    for path in ("/one", "/two", "/magic/etc/passwd", f"/{up}{tmp_path}/secret"):
        with pytest.raises((NotFound, Conflict, InvalidArgument)):
            await out(world, copies, path, follow=True)
    for path in ("/folder", "/folder/", "/magic/tmp/x"):
        with pytest.raises((NotFound, Conflict, InvalidArgument)):
            await into(world, copies, f"{path}/evil", A_FILE, EVIL)
    assert list((tmp_path / "folder").iterdir()) == []
    await into(world, copies, "/in", A_FILE, tar((entry("f"), b"good")))
    assert files_of(world, "inside/f").read_bytes() == b"good"


async def test_a_container_that_swaps_directories_for_links_gains_nothing(
    world: RealWorld, copies: Copies, tmp_path: Path
) -> None:
    """The container replaces directories with links to the host's while files are copied in."""
    (tmp_path / "host").mkdir()
    swap = (
        f"while true; do for d in /tmp/d /tmp/.pyswarm-*/d; do"
        f" busybox mv $d /tmp/away 2>/dev/null && busybox ln -s {tmp_path}/host $d"
        " && busybox sleep 0.001; busybox rm -rf $d /tmp/away; done; done"
    )
    await started(world, f"({swap}) & true")
    entries = [(entry(f"d/{number}"), b"x") for number in range(200)]
    for _ in range(20):
        try:
            await into(world, copies, "/tmp", None, tar(*entries))
        except (InvalidArgument, Conflict, NotFound, OSError):
            continue
    assert list((tmp_path / "host").iterdir()) == []


async def test_mounts_are_read_and_not_replaced(world: RealWorld, copies: Copies) -> None:
    await started(world, "true")
    archive = await out(world, copies, "/etc/hosts")
    assert b"hosts of a1" in archive
    with pytest.raises(Conflict, match="mount point"):
        await into(world, copies, "/etc/hosts", A_FILE, EVIL)
    assert files_of(world, "../files/hosts").read_text() == "hosts of a1\n"
    with pytest.raises(InvalidArgument, match="file system of the kernel"):
        await out(world, copies, "/proc/1/status")
    with pytest.raises(InvalidArgument, match="file system of the kernel"):
        await into(world, copies, "/proc/sys/kernel", A_FILE, EVIL)


async def test_a_copy_of_the_root_leaves_other_file_systems_out(
    world: RealWorld, copies: Copies, tmp_path: Path
) -> None:
    await started(world, "true")
    unpacked(await out(world, copies, "/"), tmp_path)
    assert (tmp_path / "bin" / "busybox").exists()
    assert list((tmp_path / "proc").iterdir()) == []
    assert list((tmp_path / "dev").iterdir()) == []


async def test_an_export_has_all_files_under_their_own_names(
    world: RealWorld, copies: Copies, tmp_path: Path
) -> None:
    await stopped(world, ("/bin/sh", "-c", "echo x > /new"))
    rootfs = await world.runtime.rootfs("a1")
    (tmp_path / "tar").write_bytes(b"".join([part async for part in copies.export(rootfs)]))
    with tarfile.open(tmp_path / "tar") as archive:
        names = archive.getnames()
    assert {"new", "bin/busybox", "etc/passwd"} <= set(names)
    assert "." not in names


@pytest.mark.parametrize(
    ("path", "source", "error", "words"),
    [
        ("/no/such", Source("f", False), NotFound, "no such file or directory"),
        ("/tmp/new/", Source("f", False), NotFound, "no such directory"),
        ("/etc/passwd", Source("d", True), InvalidArgument, "cannot copy a directory"),
        ("/etc/passwd/x", Source("f", False), NotFound, "no such file or directory"),
        ("/etc/passwd", None, InvalidArgument, "must be a directory"),
    ],
)
async def test_a_destination_that_cannot_be_is_refused_before_anything_is_sent(
    world: RealWorld,
    copies: Copies,
    path: str,
    source: Source | None,
    error: type[Exception],
    words: str,
) -> None:
    await stopped(world)
    with pytest.raises(error, match=words):
        await copies.into(await world.runtime.rootfs("a1"), path, source, Feed())


@pytest.mark.parametrize("path", ["/no/such", "/etc/passwd/", "/etc/passwd/x"])
async def test_a_source_that_does_not_exist_is_an_error(
    world: RealWorld, copies: Copies, path: str
) -> None:
    await stopped(world)
    with pytest.raises((NotFound, InvalidArgument), match=r"no such file|not a directory"):
        await out(world, copies, path)


async def test_a_link_is_copied_or_followed(world: RealWorld, copies: Copies) -> None:
    await stopped(world, ("/bin/sh", "-c", "busybox ln -s /etc/passwd /link"))
    assert b"/etc/passwd" in await out(world, copies, "/link")
    assert b"worker" in await out(world, copies, "/link", follow=True)


@pytest.mark.parametrize("runs", [True, False])
async def test_a_read_only_container_takes_no_files(
    world: RealWorld, copies: Copies, runs: bool
) -> None:
    await world.runtime.create(world.custom("a1", ("/bin/sleep", "1000"), read_only=True))
    await world.runtime.start("a1")
    if not runs:
        await world.runtime.kill("a1", 9)

        async def has_ended() -> bool:
            (found,) = await world.runtime.found()
            return found.state is ContainerState.STOPPED

        await until(has_ended)
    with pytest.raises(Conflict, match="read-only"):
        await into(world, copies, "/tmp/f", A_FILE, EVIL)


async def test_a_copy_whose_sender_is_gone_leaves_nothing(world: RealWorld, copies: Copies) -> None:
    await stopped(world)
    feed = Feed()
    rootfs = await world.runtime.rootfs("a1")
    copy = asyncio.create_task(copies.into(rootfs, "/tmp", None, feed))
    await feed.write(tar((entry("f"), b"x" * 100_000))[:50_000])
    await feed.write(b"x" * 10)
    copy.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copy
    assert list(files_of(world, "tmp").iterdir()) == []


async def test_a_feed_that_was_cut_is_an_error_in_its_thread() -> None:
    feed = Feed()
    feed.cut()
    with pytest.raises(Unavailable, match="cut off"):
        await asyncio.to_thread(feed.receive)


async def test_a_sender_that_sends_nothing_is_cut_off(world: RealWorld, copies: Copies) -> None:
    assert COPY_IDLE_S == 300
    await stopped(world)
    with pytest.raises(Unavailable, match="nothing was sent for"):
        await copies.into(await world.runtime.rootfs("a1"), "/tmp", None, Feed(0.05))
    assert list(files_of(world, "tmp").iterdir()) == []


async def test_the_number_of_copies_into_containers_is_bounded(
    world: RealWorld, copies: Copies
) -> None:
    assert COPIES_AT_ONCE == 8
    await stopped(world)
    running = [
        asyncio.create_task(copies.into(await world.runtime.rootfs("a1"), "/tmp", None, Feed()))
        for _ in range(COPIES_AT_ONCE)
    ]
    await asyncio.sleep(0)
    with pytest.raises(Exhausted, match="8 copies"):
        await copies.into(await world.runtime.rootfs("a1"), "/tmp", None, Feed())
    for copy in running:
        copy.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def kept(world: RealWorld, script: str) -> None:
    """The container a1 has run the script and is removed; its writable layer is kept."""
    config = world.custom("a1", ("/bin/sh", "-c", script))
    await world.runtime.create(replace(config, layer="l1", volatile=False))
    await world.runtime.start("a1")

    async def has_ended() -> bool:
        (found,) = await world.runtime.found()
        return found.state is ContainerState.STOPPED

    await until(has_ended)
    await world.runtime.remove("a1")


async def test_the_files_of_a_kept_layer_are_read_and_written(
    world: RealWorld, copies: Copies, tmp_path: Path
) -> None:
    await kept(world, "echo left > /left; busybox rm /etc/group")
    rootfs = await world.runtime.rootfs("a1", "l1")
    found = [f"{change.kind} {change.path}" for change in changes(rootfs)]
    rootfs.close()
    assert found == ["C /etc", "D /etc/group", "A /left"]
    rootfs = await world.runtime.rootfs("a1", "l1")
    archive = b"".join([part async for part in copies.out(rootfs, "/", follow=False)])
    unpacked(archive, tmp_path)
    assert (tmp_path / "left").read_text() == "left\n"
    assert (tmp_path / "bin" / "busybox").exists()
    assert not (tmp_path / "etc" / "group").exists()
    rootfs = await world.runtime.rootfs("a1", "l1", writable=True)
    await fill(copies, rootfs, "/etc", tar((entry("new"), b"new")))
    script = "busybox grep -q new /etc/new && busybox grep -q left /left && exit 7"
    await world.runtime.create(
        replace(world.custom("a2", ("/bin/sh", "-c", script)), layer="l1", volatile=False)
    )
    await world.runtime.start("a2")

    async def has_ended() -> bool:
        (found,) = await world.runtime.found()
        return found.exit is not None and found.exit.code == 7

    await until(has_ended)


def bound(source: Path, target: str, mode: str = "rw") -> dict[str, object]:
    options = ["rbind", "rprivate", mode]
    return {"destination": target, "type": "bind", "source": str(source), "options": options}


async def test_a_copy_into_a_stopped_container_goes_into_its_volumes(
    world: RealWorld, copies: Copies, tmp_path: Path
) -> None:
    volume, of_host = world.layout.state / "volumes" / "v1" / "_data", tmp_path / "host"
    for directory in (volume, of_host):
        directory.mkdir(parents=True)
    config = world.custom("a1", ("/bin/true",))
    own = [bound(volume, "/data"), bound(volume, "/ro", "ro"), bound(of_host, "/host")]
    given: Any = config.oci["mounts"]
    config = replace(config, oci={**config.oci, "mounts": [*given, *own]})
    await world.runtime.create(replace(config, layer="l1", volatile=False))
    await world.runtime.remove("a1")

    async def fill_at(path: str) -> None:
        rootfs = await world.runtime.rootfs("a1", "l1", writable=True)
        await fill(copies, rootfs, path, tar((entry("f"), b"new")))

    await fill_at("/data")
    assert (volume / "f").read_bytes() == b"new"
    with pytest.raises(Conflict, match="mounted volume is marked read-only"):
        await fill_at("/ro")
    with pytest.raises(Conflict, match="only the running container has: start it first"):
        await fill_at("/host")
    upper = world.layout.layer("l1") / "upper"
    below = [upper / name / "f" for name in ("data", "ro", "host")]
    assert not any(path.exists() for path in (*below, of_host / "f"))
    rootfs = await world.runtime.rootfs("a1", "l1")
    archive = b"".join([part async for part in copies.out(rootfs, "/data", follow=False)])
    (tmp_path / "out").mkdir()
    unpacked(archive, tmp_path / "out")
    assert (tmp_path / "out" / "data" / "f").read_bytes() == b"new"
    mounted = Path("/proc/self/mountinfo").read_text()
    assert str(world.layout.run / "view-") not in mounted


async def test_a_container_waits_for_the_copy_into_its_layer(world: RealWorld) -> None:
    await kept(world, "true")
    rootfs = await world.runtime.rootfs("a1", "l1", writable=True)
    with pytest.raises(RuntimeFailed, match="files are being copied"):
        await world.runtime.rootfs("a1", "l1", writable=True)
    config = replace(world.custom("a2", ("/bin/true",)), layer="l1", volatile=False)
    making = asyncio.create_task(world.runtime.create(config))
    await world.runtime.layers()
    assert not making.done()
    rootfs.close()
    await making
    with pytest.raises(RuntimeFailed, match="in use by container a2"):
        await world.runtime.rootfs("a1", "l1", writable=True)


async def test_a_layer_that_does_not_exist_has_no_files(world: RealWorld) -> None:
    with pytest.raises(RuntimeFailed, match="no files"):
        await world.runtime.rootfs("a1", "l9")


async def test_nothing_is_left_mounted(world: RealWorld) -> None:
    await kept(world, "true")
    for writable in (False, True):
        (await world.runtime.rootfs("a1", "l1", writable=writable)).close()
    assert str(world.layout.run) not in Path("/proc/self/mountinfo").read_text()
    assert not list(world.layout.run.glob("view-*"))


@pytest.mark.parametrize("is_kept", [False, True])
async def test_owners_are_those_of_the_container_s_user_namespace(
    world: RealWorld, copies: Copies, tmp_path: Path, is_kept: bool
) -> None:
    command = ("/bin/true",) if is_kept else ("/bin/sleep", "1000")
    config = world.custom("a1", command, userns_mode="auto")
    await world.runtime.create(replace(config, layer="l1", volatile=False))
    await world.runtime.start("a1")
    if is_kept:

        async def has_ended() -> bool:
            (found,) = await world.runtime.found()
            return found.state is ContainerState.STOPPED

        await until(has_ended)
        await world.runtime.remove("a1")
    info = entry("file")
    info.uid, info.gid = 7, 8
    rootfs = await world.runtime.rootfs("a1", "l1", writable=True)
    await fill(copies, rootfs, "/tmp", tar((info, b"hello")))
    owner = (world.layout.layer("l1") / "upper" / "tmp" / "file").stat().st_uid
    assert owner > 65536
    assert owner % 65536 == 7
    rootfs = await world.runtime.rootfs("a1", "l1")
    archive = b"".join([part async for part in copies.out(rootfs, "/tmp/file", follow=False)])
    unpacked(archive, tmp_path, rights=KEEP)
    status = (tmp_path / "file").stat()
    assert (status.st_uid, status.st_gid) == (7, 8)
    rootfs = await world.runtime.rootfs("a1", "l1")
    archive = b"".join([part async for part in copies.out(rootfs, "/bin/busybox", follow=False)])
    unpacked(archive, tmp_path, rights=KEEP)
    assert (tmp_path / "busybox").stat().st_uid == 0
    info.uid = 100_000
    rootfs = await world.runtime.rootfs("a1", "l1", writable=True)
    with pytest.raises(Refused, match="user id 100000"):
        await fill(copies, rootfs, "/tmp", tar((info, b"hello")))
