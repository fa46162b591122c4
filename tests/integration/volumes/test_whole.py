"""A whole volume as an archive: what is read is what is written, whole or not at all."""

import asyncio
import os
import socket
import stat
import subprocess
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from hashlib import sha256
from pathlib import Path

import pytest

from agent.volumes import tar as tar_module
from pyswarm_core.errors import Conflict, Exhausted, InvalidArgument, NotFound, Unavailable
from pyswarm_core.streams.frames import Digest, Exit, Started
from pyswarm_core.streams.limits import VOLUME_COPIES_PER_NODE, VOLUME_WINDOW
from pyswarm_core.streams.requests import WriteVolumeRequest
from tests.fixtures.hung import hung_file_system
from tests.integration.volumes.disk import ID, Host, Sending
from tests.unit.core.archives.test_hostile import HOSTILE
from tests.unit.core.archives.test_round_trip import HOLE, make_tree
from tests.unit.core.archives.trees import entry, tar, tree


def filled(host: Host) -> Path:
    """A volume with files of every kind."""
    filling = host.store.begin(ID)
    filling.rmdir()
    top = make_tree(filling)
    top.chmod(0o1770)
    os.chown(top, 26, 27)
    os.chown(top / "file", 1234, 5678)
    os.setxattr(top / "file", "user.note", b"\x00\xff")
    os.setxattr(top / "deep", "trusted.overlay.opaque", b"y")
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with (top / "sparse").open("wb") as file:
        file.seek(HOLE - 6)
        file.write(b"at end")
    path = host.store.finish(ID, "data", filling)
    os.utime(path / "empty", ns=(5, 1_234_567_890_123_456_789))
    return path


async def test_everything_of_a_volume_arrives(here: Host, there: Host) -> None:
    top = filled(here)
    archive, frames = await here.read()
    assert frames[0] == Started()
    assert frames[-1] == Exit()
    assert Digest(sha256(archive).digest(), len(archive)) in frames
    assert len(archive) < 4 << 20
    await there.write(archive)
    assert tree(there.data) == tree(top)
    status = there.data.stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o1770, 26, 27)
    assert os.getxattr(there.data / "file", "user.note") == b"\x00\xff"
    assert os.getxattr(there.data / "deep", "trusted.overlay.opaque") == b"y"
    assert (there.data / "null").stat().st_rdev == os.makedev(1, 3)
    assert (there.data / "sparse").stat().st_blocks * 512 < 1 << 20
    assert (there.data / "empty").stat().st_mtime_ns == 1_234_567_890_123_456_789
    assert there.left() == ["_data"]
    async with there.files.directory(ID, "data") as directory:
        assert directory == there.data
    assert (there.state / "volume-records" / ID).read_text() == "data"


async def test_a_sender_has_the_credit_of_one_window(here: Host) -> None:
    assert VOLUME_WINDOW == 2 * 1024 * 1024
    sending = Sending(bytes(2 * VOLUME_WINDOW), Digest(b"", 0), cut=False)
    sending.paused = True
    request = WriteVolumeRequest(ref=ID, volume="data")
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(here.streams.serve(request, sending.link))
        await sending.granted.wait()
        assert sending.credit == VOLUME_WINDOW
        serving.cancel()


def old(host: Host) -> dict[str, tuple[object, ...]]:
    """A volume with one file; returns what is in it."""
    path = host.make()
    (path / "old").write_bytes(b"old")
    return tree(path)


async def refused(host: Host, archive: bytes, told: str, **options: object) -> None:
    """The archive is refused, and the volume is as before."""
    before = tree(host.data)
    with pytest.raises((InvalidArgument, Conflict, Unavailable), match=told):
        await host.write(archive, **options)  # type: ignore[arg-type]
    assert tree(host.data) == before
    assert host.left() == ["_data"]


async def test_ten_thousand_files_and_the_longest_names_and_paths(here: Host, there: Host) -> None:
    top = here.make()
    for number in range(10_000):
        (top / f"{number % 100}").mkdir(exist_ok=True)
        (top / f"{number % 100}" / f"{number}").write_bytes(b"%d" % number)
    (top / ("n" * 255)).write_bytes(b"long")
    (top / b"not utf-8 \xff and \n\t".decode(errors="surrogateescape")).write_bytes(b"odd")
    descriptor = os.open(top, os.O_PATH)
    for _ in range(15):
        os.mkdir("d" * 255, dir_fd=descriptor)
        inner = os.open("d" * 255, os.O_PATH, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(os.open("f" * 250, os.O_WRONLY | os.O_CREAT, dir_fd=descriptor))
    os.close(descriptor)
    archive, _ = await here.read()
    await there.write(archive)
    listing = ["find", ".", "-printf", r"%p %y %m %U %G %s %T@\0"]
    found = [await asyncio.to_thread(_said, listing, host.data) for host in (here, there)]
    assert sorted(found[0].split(b"\0")) == sorted(found[1].split(b"\0"))
    assert found[0].count(b"\0") > 10_100


def _said(words: list[str], directory: Path) -> bytes:
    return subprocess.check_output(words, cwd=directory)


async def test_times_before_the_epoch_and_access_lists_arrive(here: Host, there: Host) -> None:
    top = here.make()
    (top / "early").touch()
    os.utime(top / "early", ns=(0, -1_500_000_000))
    acl = bytes.fromhex("0200000001000600ffffffff02000600e803000004000400ffffffff")
    acl += bytes.fromhex("10000600ffffffff20000000ffffffff")
    os.setxattr(top / "early", "system.posix_acl_access", acl)
    archive, _ = await here.read()
    await there.write(archive)
    assert (there.data / "early").stat().st_mtime_ns == -1_500_000_000
    assert os.getxattr(there.data / "early", "system.posix_acl_access") == acl


async def test_sockets_are_left_out(here: Host, there: Host) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(here.make() / "s"))
    archive, frames = await here.read()
    assert frames[-1] == Exit()
    await there.write(archive)
    assert list(there.data.iterdir()) == []


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_archive_reaches_nothing_outside(here: Host, name: str) -> None:
    before = old(here)
    with suppress(InvalidArgument, Conflict):
        await here.write(HOSTILE[name])
    after = tree(here.data)
    assert here.left() == ["_data"]
    assert (here.state / "volumes" / ID).parent.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in here.state.iterdir()) == ["volume-records", "volumes"]
    assert sorted(path.name for path in (here.state / "volumes").iterdir()) == [ID]
    for path in map(Path, ("/tmp/evil", "/evil", "/outside", "/x")):
        assert not path.exists()
    if name in REFUSED:
        assert after == before
    else:
        assert "old" not in after


REFUSED = (
    "above", "above inside", "absolute", "hard link above", "absolute hard link",
    "hard link to nothing", "hard link to a directory", "hard link through a link", "long name",
    "through a link", "through a file", "unknown type", "a file in place of a directory",
)  # fmt: skip
"""What leads outside, or to nothing. Other entries are kept, and lead nowhere."""


async def test_links_are_never_written_through(here: Host, tmp_path: Path) -> None:
    old(here)
    (tmp_path / "target").mkdir()
    for target in (str(tmp_path / "target"), "/tmp", "/data", "..", "../..", "/usr"):
        archive = tar(entry("l", tarfile.SYMTYPE, target), (entry("l/evil-of-link"), b"x"))
        with suppress(Conflict, InvalidArgument):
            await here.write(archive)
        assert not list((tmp_path / "target").iterdir())
        for place in ("/tmp", "/usr", "/", here.state, here.state / "volumes"):
            assert not (Path(place) / "evil-of-link").exists()


@pytest.mark.parametrize("size", [0, 1, 511, 512, 1024, 5000, 9000])
async def test_an_archive_that_ends_early_changes_nothing(here: Host, size: int) -> None:
    old(here)
    archive = tar((entry("a"), b"x" * 700), (entry("b"), b"y" * 6000))
    await refused(here, archive[:size], "archive")


@pytest.mark.parametrize(
    "archive",
    [b"no archive" * 1000, b"\x1f\x8b" + bytes(2000), os.urandom(10_000), b"x" * 512 + bytes(1024)],
    ids=["text", "gzip", "random", "bad header"],
)
async def test_what_is_no_archive_changes_nothing(here: Host, archive: bytes) -> None:
    old(here)
    await refused(here, archive, "archive")


async def test_a_header_that_claims_much_memory_is_refused(here: Host) -> None:
    old(here)
    huge = tarfile.TarInfo("huge")
    huge.type, huge.size = tarfile.XHDTYPE, 6 << 30
    head = huge.tobuf(tarfile.USTAR_FORMAT if huge.size < 1 << 33 else tarfile.GNU_FORMAT)
    await refused(here, head + b"1" * (1 << 20) + bytes(1024), "archive")


async def test_an_archive_that_was_damaged_or_cut_on_the_way_changes_nothing(here: Host) -> None:
    old(here)
    archive = tar((entry("a"), b"x" * 700))
    wrong = Digest(sha256(b"other").digest(), len(archive))
    await refused(here, archive, "was damaged on the way", digest=wrong)
    short = Digest(sha256(archive).digest(), len(archive) + 1)
    await refused(here, archive, f"{len(archive)} bytes arrived of", digest=short)


async def test_a_sender_that_goes_leaves_the_former_volume(here: Host) -> None:
    before = old(here)
    archive = tar(*[(entry(f"{number}"), b"x" * 70_000) for number in range(50)])
    with pytest.raises((Unavailable, BaseExceptionGroup)):
        await here.write(archive, cut=True)
    assert tree(here.data) == before
    assert here.left() == ["_data"]


async def test_a_mounted_volume_is_read_with_a_notice_and_not_replaced(here: Host) -> None:
    old(here)
    here.tasks = ["db.1.a", "db.2.b", "db.3.c", "db.4.d"]
    _, frames = await here.read()
    assert isinstance(frames[0], Started)
    assert "volume data is mounted by db.1.a, db.2.b, db.3.c and 1 others" in frames[0].notice
    await refused(here, tar((entry("a"), b"x")), "mounted by db.1.a, .* stop them, or use --stop")


async def test_a_task_that_begins_meanwhile_keeps_its_files(here: Host) -> None:
    old(here)
    begun = asyncio.Event()
    replace = here.files.replace

    async def later(volume_id: str, name: str) -> None:
        here.tasks = ["db.1.a"]
        begun.set()
        await replace(volume_id, name)

    here.files.replace = later  # type: ignore[method-assign]
    await refused(here, tar((entry("a"), b"x")), "mounted by db.1.a: stop them")
    assert begun.is_set()


async def test_one_archive_at_a_time_replaces_a_volume(here: Host) -> None:
    old(here)
    archive = tar((entry("a"), b"x"))
    async with here.files.receiving(ID, "data"):
        with pytest.raises(Exhausted, match="is being replaced by another archive: wait"):
            await here.write(archive)
    await here.write(archive)
    assert list(tree(here.data)) == ["a"]


async def test_a_volume_without_files_is_not_found(here: Host) -> None:
    with pytest.raises(NotFound, match="volume data has no files yet"):
        await here.read()


async def test_a_root_that_became_a_link_is_not_followed(here: Host, tmp_path: Path) -> None:
    path = here.make()
    (tmp_path / "secret").mkdir()
    path.rmdir()
    path.symlink_to(tmp_path / "secret")
    with pytest.raises(Conflict, match="is no directory any more"):
        await here.read()
    await here.write(tar((entry("a"), b"x")))
    assert list(tree(here.data)) == ["a"]
    assert not here.data.is_symlink()
    assert list((tmp_path / "secret").iterdir()) == []


async def test_a_file_that_changes_is_an_error_where_nothing_may_write(here: Host) -> None:
    path = here.make()
    with (path / "log").open("wb") as file:
        file.write(bytes(8 << 20))
    assert (await here.read(still=True))[1][-1] == Exit()

    async def read(**options: object) -> list[object]:
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(here.read(limit=2 << 20, **options))
            await asyncio.sleep(0)
            while here.received < 1 << 20:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            with (path / "log").open("ab") as file:
                file.write(b"more")
            here.grant(1 << 40)
        return [*reading.result()[1]]

    ended = (await read())[-1]
    assert isinstance(ended, Exit)
    assert "files changed while they were read, the first: ./log: file changed" in ended.message
    with pytest.raises(BaseExceptionGroup) as error:
        await read(still=True)
    assert error.group_contains(Unavailable, match="volume data cannot be read: ./log: file")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Host]:
    """A host whose disk has 4 MiB."""
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", state], check=True)
    with closing(Host(tmp_path)) as host:
        yield host
    subprocess.run(["umount", state], check=True)


async def test_a_full_disk_changes_nothing_and_says_so(small: Host) -> None:
    before = old(small)
    archive = tar((entry("a"), os.urandom(16 << 20)), (entry("b"), b"x"))
    with pytest.raises(Conflict, match=r"cannot be unpacked: .*No space left on device"):
        await small.write(archive)
    assert tree(small.data) == before
    assert small.left() == ["_data"]
    await small.write(tar((entry("a"), os.urandom(1 << 20))))
    assert list(tree(small.data)) == ["a"]


async def test_a_host_without_tar_says_what_to_install(
    here: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.make()
    monkeypatch.setattr(tar_module, "PACK", ("tar-that-is-not-there", "."))
    with pytest.raises(Unavailable, match="no program tar-that-is-not-there: install GNU tar"):
        await here.read()


async def test_what_an_earlier_agent_was_making_is_removed(here: Host) -> None:
    before = old(here)
    (here.store.begin_receiving(ID) / "half").write_bytes(b"x")
    await here.files.tidy()
    assert here.left() == ["_data"]
    (here.store.begin_receiving(ID) / "half").write_bytes(b"x")
    await here.write(tar((entry("a"), b"x")))
    assert list(tree(here.data)) == ["a"]
    assert "old" in before


async def test_a_file_system_that_hangs_blocks_nothing_else(here: Host, there: Host) -> None:
    path = here.make()
    (path.parent / "foreign").touch()

    @asynccontextmanager
    async def held(volume_id: str, name: str) -> AsyncIterator[Path]:
        """What asks the file system is not this test's."""
        yield path

    here.volumes.held = held  # type: ignore[method-assign]
    with hung_file_system(path):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(here.read()) for _ in range(VOLUME_COPIES_PER_NODE)]
            old(there)
            await there.read()
            assert not any(task.done() for task in tasks)
            for task in tasks:
                task.cancel()
    assert not here.streams.open
