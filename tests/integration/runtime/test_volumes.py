"""New volumes filled from real image layers, on a real file system."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.runtime.base import RuntimeFailed
from agent.tasks.record import Record
from agent.volumes import filling, views
from agent.volumes.store import VolumeStore
from agent.volumes.volumes import Volumes
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.specs import ContainerSpec, TaskSpec
from pyswarm_core.volumes.mounts import ImageOptions, Mount, MountType, VolumeOptions

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
    state = tmp_path / "state"
    found = Volumes(
        store, tmp_path / "run", lambda task_id: state / task_id, kept=lambda layer: state / layer
    )
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
    return Path(found.paths[mount.target])


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
    assert found.paths["/data"] == str(tmp_path / "state" / "t1" / "0")
    assert "up" in names(Path(found.paths["/data"]))
    assert names(Path(found.paths["/empty"])) == []


def below(path: str) -> Mount:
    options = VolumeOptions(subpath=path)
    return Mount(source="data", target="/data", volume_options=options)


async def opened(volumes: Volumes, layers: tuple[str, ...], path: str, stack: ExitStack) -> Path:
    found = await volumes.ready(record(below(path)), layers, lambda text: None, stack)
    return Path(found.paths["/data"])


async def test_a_path_in_a_volume_is_what_was_there_when_it_was_resolved(
    volumes: Volumes, layers: tuple[str, ...]
) -> None:
    """CVE-2021-25741: a directory is exchanged for a link after it was checked."""
    whole = await path_of(volumes, layers, Mount(source="data", target="/data"))
    (whole / "a" / "b").mkdir(parents=True)
    (whole / "a" / "b" / "mine").touch()
    with ExitStack() as stack:
        shown = await opened(volumes, layers, "a/b", stack)
        (whole / "a").rename(whole / "was")
        (whole / "a").symlink_to("/")
        (whole / "was" / "b").rename(whole / "was" / "c")
        (whole / "was" / "b").symlink_to("/etc")
        assert names(shown) == ["mine"]


@pytest.mark.parametrize(
    "link", ["/etc", "../../../../../../../../etc", "/proc/self/root/etc", "../_data/../../../etc"]
)
async def test_links_of_a_volume_lead_to_nothing_outside_of_it(
    volumes: Volumes, layers: tuple[str, ...], link: str
) -> None:
    """CVE-2017-1002101: a link in a volume leads to the host."""
    whole = await path_of(volumes, layers, Mount(source="data", target="/data"))
    (whole / "evil").symlink_to(link)
    with ExitStack() as stack, pytest.raises(RuntimeFailed, match="no such file or directory"):
        await opened(volumes, layers, "evil/passwd", stack)
    (whole / "etc").mkdir()
    (whole / "etc" / "passwd").write_text("of the volume")
    if "proc" not in link and "_data" not in link:
        with ExitStack() as stack:
            shown = await opened(volumes, layers, "evil/passwd", stack)
            assert shown.read_text() == "of the volume"


async def test_a_path_in_a_volume_must_exist(volumes: Volumes, layers: tuple[str, ...]) -> None:
    told = "volume data: volume-subpath: no such file or directory: no/such: it must exist before"
    with ExitStack() as stack, pytest.raises(RuntimeFailed, match=told):
        await opened(volumes, layers, "no/such", stack)


async def test_an_image_is_shown_until_the_container_has_it(
    volumes: Volumes, layers: tuple[str, ...], tmp_path: Path
) -> None:
    whole = Mount(type=MountType.IMAGE, source="web", target="/i")
    part = replace(whole, target="/p", image_options=ImageOptions(subpath="link/up"))
    asked, images = record(whole, part), {"web": layers}
    with ExitStack() as stack:
        found = await volumes.ready(asked, (), lambda text: None, stack, images)
        assert names(Path(found.paths["/i"]) / "data") == ["low", "out", "pipe", "same", "up"]
        assert Path(found.paths["/p"]).read_text() == "up"
        target = tmp_path / "bound"
        target.mkdir()
        run("mount", "--bind", found.paths["/i"], str(target))
    try:
        assert names(target / "data") == ["low", "out", "pipe", "same", "up"]
        with pytest.raises(OSError, match="Read-only file system"):
            (target / "new").touch()
    finally:
        run("umount", str(target))


async def test_a_path_in_an_image_must_exist_in_it(
    volumes: Volumes, layers: tuple[str, ...]
) -> None:
    options = ImageOptions(subpath="up_and_out/passwd")
    mount = Mount(type=MountType.IMAGE, source="web", target="/i", image_options=options)
    with ExitStack() as stack, pytest.raises(RuntimeFailed, match="image web: image-subpath: no"):
        await volumes.ready(record(mount), (), lambda text: None, stack, {"web": layers})


async def test_what_a_killed_agent_left_of_images_is_removed(
    layers: tuple[str, ...], tmp_path: Path
) -> None:
    viewing = views.viewed(layers, tmp_path)
    view = viewing.__enter__()
    assert (view / "data").is_dir()
    views.clear(tmp_path)
    assert not view.parent.exists()


async def test_one_of_a_container_is_kept_with_its_layer(
    volumes: Volumes, layers: tuple[str, ...], tmp_path: Path
) -> None:
    mount = Mount(target="/data")
    found = []
    for name in ("t1", "t2"):
        asked = replace(record(mount, name=name), layer="layer1")
        path = Path((await volumes.ready(asked, layers, lambda text: None)).paths["/data"])
        assert path.parent == tmp_path / "state" / "layer1"
        assert "up" in names(path)
        (path / f"of-{name}").touch()
        found.append(path)
    assert names(found[1])[:2] == ["low", "of-t1"]
    assert names(tmp_path / "state" / "layer1") == [found[0].name]


async def test_what_a_container_wrote_before_it_had_volumes_stays_in_its_layer(
    volumes: Volumes, layers: tuple[str, ...], tmp_path: Path
) -> None:
    asked = replace(record(Mount(target="/data")), layer="layer1")
    paths = ["/data", "/other"]
    (tmp_path / "state" / "upper" / "data").mkdir(parents=True)
    assert await volumes.declared(asked, paths) == ["/other"]
    await volumes.ready(asked, layers, lambda text: None)
    assert await volumes.declared(asked, paths) == paths, "it has a volume there"
    assert await volumes.declared(replace(asked, layer=""), paths) == paths


async def test_an_empty_directory_is_made_without_a_copying_process(
    volumes: Volumes, layers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    (Path(layers[0]) / "empty").mkdir(mode=0o700)
    os.chown(Path(layers[0]) / "empty", 70, 71)
    monkeypatch.setattr(filling, "copy", None)
    path = await path_of(volumes, layers, Mount(target="/empty"))
    status = path.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (70, 71, 0o700)


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


HOSTILE = (
    b"-rf", b"--reflink=never", b"*", b"$(touch owned)", b"`id`", b"a b", b" ", b"...", b".hidden",
    b"new\nline", b"tab\t", b"bell\x07", b"quo\"te", b"it's", b"back\\slash", b"\xff\xfe\x80",
    b"a" * 255, "\u202etxt.exe".encode(), b"{}", b"%s%n", b"#", b"~", b"nul\x01",
)  # fmt: skip
MANY = 10_000
PATH_MAX = 4096
"""With the NUL at its end: what one system call takes."""


def _deep(directory: int, name: bytes, depth: int) -> int:
    """Make directories of that name in each other; the descriptor of the last, which is opened."""
    current = os.dup(directory)
    for _ in range(depth):
        os.mkdir(name, dir_fd=current)
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=current)
        os.close(current)
        current = inner
    return current


def _write(name: bytes, directory: int) -> None:
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o640, dir_fd=directory))


async def test_many_files_hostile_names_and_the_longest_path_of_an_image_fill_a_volume(
    volumes: Volumes, layers: tuple[str, ...]
) -> None:
    data = os.open(f"{layers[0]}/data", os.O_RDONLY | os.O_DIRECTORY)
    for name in HOSTILE:
        _write(name, data)
    os.mkdir(b"many", dir_fd=data)
    for number in range(MANY):
        _write(b"many/%d" % number, data)
    room = PATH_MAX - 1 - len(os.fsencode(f"{layers[0]}/data"))
    depth, rest = divmod(room, 201)  # a slash and 200 letters
    bottom = _deep(data, b"d" * 200, depth if rest > 1 else depth - 1)
    _write(b"f" * ((rest if rest > 1 else rest + 201) - 1), bottom)
    os.close(bottom)
    longest = os.fsencode(f"{layers[0]}/data")
    expected = _tree(data)
    os.close(data)
    assert max(len(longest) + 1 + len(path) for path in expected) == PATH_MAX - 1
    path = await path_of(volumes, layers, Mount(source="data", target="/data"))
    filled = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    found = _tree(filled)
    os.close(filled)
    assert found == (expected - {b"hidden"}) | {b"low"}
    assert len(found) > MANY + len(HOSTILE)
    assert not Path("owned").exists()


async def test_what_a_task_made_beyond_the_longest_path_is_removed(
    volumes: Volumes, layers: tuple[str, ...], tmp_path: Path
) -> None:
    path = await path_of(volumes, layers, Mount(source="data", target="/data"))
    data = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    for name in HOSTILE:
        _write(name, data)
    bottom = _deep(data, b"d" * 255, 40)
    for name in HOSTILE:
        _write(name, bottom)
    os.close(bottom)
    os.close(data)
    (tmp_path / "kept").write_text("kept")
    os.symlink(tmp_path, path / "out_of_it")  # noqa: PTH211
    await volumes.remove("iddata")
    assert list((tmp_path / "state" / "volumes").iterdir()) == []
    assert (tmp_path / "kept").read_text() == "kept"


def _tree(directory: int) -> set[bytes]:
    """The paths of all files and directories below one."""
    found = set()

    def walk(current: int, prefix: bytes) -> None:
        for text in os.listdir(current):
            name = os.fsencode(text)
            found.add(prefix + name)
            if os.path.isdir(f"/proc/self/fd/{current}/{text}") and not text.startswith("out"):  # noqa: PTH112
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=current)
                walk(inner, prefix + name + b"/")
                os.close(inner)

    walk(directory, b"")
    return found


async def test_a_fill_ends_with_its_task(
    volumes: Volumes, layers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slow = tmp_path / "bin"
    slow.mkdir()
    (slow / "cp").write_text("#!/bin/sh\nexec sleep 1000\n")
    (slow / "cp").chmod(0o755)
    monkeypatch.setattr(filling, "PATH", f"{slow}:/usr/bin:/bin")
    work = asyncio.create_task(path_of(volumes, layers, Mount(source="data", target="/data")))
    async with asyncio.timeout(60):
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
