"""Volumes that are file systems of their own, on the real kernel."""

import asyncio
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.outbox import Outbox
from agent.runtime.base import RuntimeFailed
from agent.tasks.record import Record
from agent.volumes import filling
from agent.volumes.child import mounts_below
from agent.volumes.children import Children
from agent.volumes.measuring import Measuring
from agent.volumes.mounted import Mounts
from agent.volumes.store import VolumeStore
from agent.volumes.volumes import Volumes
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.clock import SECOND
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.specs import ContainerSpec, TaskSpec
from pyswarm_core.volumes.mounts import BindOptions, Driver, Mount, MountType, VolumeOptions

SIZE = {"size": "16m"}
MIB = 1 << 20


class Host:
    """A state directory, and agents over it."""

    def __init__(self, tmp_path: Path) -> None:
        self.state, self.image = tmp_path / "state", tmp_path / "image"
        self.run = tmp_path / "run"
        self.run.mkdir()
        (self.image / "data").mkdir(parents=True)
        (self.image / "data" / "of-image").write_text("image")
        self.agents: list[Volumes] = []

    def agent(self, answer: int = 20 * SECOND) -> Volumes:
        """An agent that has just started."""
        store = VolumeStore(self.state)
        store.prepare()
        children = Children(answer)
        mounts = Mounts(store, children, mount_max=answer)
        mounts.find()
        made = Volumes(store, self.run, lambda task: self.state / task, children, mounts)
        self.agents.append(made)
        return made

    def path(self, name: str = "data") -> Path:
        return self.state / "volumes" / f"id{name}"

    async def ready(
        self,
        agent: Volumes,
        options: dict[str, str],
        name: str = "data",
        *,
        nocopy: bool = False,
        driver: str = "",
    ) -> Path:
        mount = Mount(source=name, target="/data", volume_options=VolumeOptions(no_copy=nocopy))
        asked = record(mount, Driver(name=driver, options=options))
        found = await agent.ready(asked, (str(self.image),), lambda text: None)
        return Path(found.paths["/data"])


def record(mount: Mount, driver: Driver) -> Record:
    return Record(
        task_id=TaskId("t1"),
        service_id=ServiceId("db"),
        service_name="db",
        slot=1,
        node_id=NodeId("n1"),
        spec=TaskSpec(container_spec=ContainerSpec(image="web", mounts=(mount,))),
        volumes={mount.source: f"id{mount.source}"},
        drivers={mount.source: driver},
    )


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    found = Host(tmp_path)
    yield found
    for agent in found.agents:
        agent.close()
    for point in mounts_below(str(tmp_path)):
        command("umount", "--lazy", point)
    assert loops(tmp_path) == []


def command(*words: str) -> None:
    subprocess.run(words, check=True)


def loops(below: Path) -> list[str]:
    """The files below a directory that a loop device has."""
    shown = subprocess.run(["losetup", "--list", "--noheadings", "--output", "BACK-FILE"],
                           capture_output=True, text=True, check=True)  # fmt: skip
    return [line for line in shown.stdout.split("\n") if line.startswith(str(below))]


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def write(path: Path, size: int) -> None:
    with path.open("wb", buffering=0) as file:
        for _ in range(size // MIB):
            file.write(bytes(MIB))


async def test_a_volume_with_a_size_has_the_image_s_files_and_no_more_room(host: Host) -> None:
    agent = host.agent()
    data = await host.ready(agent, SIZE)
    assert names(data) == ["of-image"]
    assert mounts_below(str(host.path())) == [str(data)]
    with pytest.raises(OSError, match="No space left") as full:
        write(data / "large", 32 * MIB)
    assert full.value.errno == errno.ENOSPC
    assert 8 * MIB < (data / "large").stat().st_size <= 16 * MIB
    assert (host.path() / "image").stat().st_size == 16 * MIB
    await agent.release("iddata", lambda: ())
    assert mounts_below(str(host.path())) == []
    assert loops(host.state) == []
    again = await host.ready(host.agent(), SIZE)
    assert names(again) == ["large", "of-image"]


async def test_a_volume_that_a_container_has_stays_mounted(host: Host) -> None:
    agent = host.agent()
    data = await host.ready(agent, SIZE)
    await agent.release("iddata", lambda: ("iddata",))
    assert mounts_below(str(host.path())) == [str(data)]


async def test_two_services_share_one_file_system(host: Host) -> None:
    agent, other = host.agent(), host.agent()
    await host.ready(agent, SIZE)
    paths = await asyncio.gather(*(host.ready(one, SIZE) for one in (agent, agent, other, agent)))
    assert len({*paths}) == 1
    assert len(mounts_below(str(host.path()))) == 1
    assert len(loops(host.state)) == 1
    (paths[0] / "file").write_text("seen by both")
    assert (paths[-1] / "file").read_text() == "seen by both"


async def test_a_file_system_that_something_holds_is_not_mounted_from_a_second_device(
    host: Host,
) -> None:
    agent = host.agent()
    data = await host.ready(agent, SIZE)
    held = os.open(data, os.O_RDONLY)
    try:
        (data / "file").write_text("kept")
        command("umount", "--lazy", str(data))
        again = await host.ready(agent, SIZE)
        assert (again / "file").read_text() == "kept"
        assert len(loops(host.state)) == 1
    finally:
        os.close(held)


@pytest.mark.parametrize("step", range(1, 22))
async def test_an_agent_killed_between_any_two_steps_leaves_a_whole_volume_or_none(
    host: Host, step: int
) -> None:
    """The agent is ended at its nth step of the work, the next one makes the volume."""
    assert _killed_at(host, step)
    found = await host.ready(host.agent(), SIZE)
    assert names(found) == ["of-image"]
    assert (found / "of-image").read_text() == "image"
    assert mounts_below(str(host.path())) == [str(found)]
    assert len(loops(host.state)) == 1
    assert names(host.path()) == ["_data", "image"]


def _killed_at(host: Host, step: int) -> bool:
    """Whether the agent was killed: a program that ends itself at its nth file operation."""
    words = [sys.executable, "-m", "tests.integration.runtime.killed_agent",
             str(host.state), str(host.run), str(host.image), str(step)]  # fmt: skip
    return subprocess.run(words, check=False).returncode != 0


async def test_a_fill_that_does_not_fit_fails_and_leaves_nothing_half_made(host: Host) -> None:
    write(host.image / "data" / "large", 20 * MIB)
    agent = host.agent()
    with pytest.raises(RuntimeFailed, match=r"volume data cannot be filled.*No space left"):
        await host.ready(agent, SIZE)
    assert not (host.path() / "image").exists()
    (host.image / "data" / "large").unlink()
    assert names(await host.ready(agent, SIZE)) == ["of-image"]


async def test_a_disk_that_is_full_while_a_volume_is_made_fails_the_task(host: Host) -> None:
    agent = host.agent()
    state = host.state / "volumes"
    command("mount", "-t", "tmpfs", "-o", "size=64k", "disk", str(state))
    try:
        with pytest.raises(RuntimeFailed, match=r"^volume data: "):
            await host.ready(agent, SIZE)
        command("mount", "-o", "remount,size=64m", str(state))
        assert names(await host.ready(agent, SIZE)) == ["of-image"]
        await agent.remove("iddata")
    finally:
        command("umount", str(state))


@pytest.mark.parametrize("gone", ["image", ""])
async def test_a_volume_whose_file_somebody_deleted_is_not_made_again(
    host: Host, gone: str
) -> None:
    agent = host.agent()
    await host.ready(agent, SIZE)
    await agent.release("iddata", lambda: ())
    command("rm", "-r", str(host.path() / gone))
    with pytest.raises(RuntimeFailed, match="image is no file any more: restore it"):
        await host.ready(agent, SIZE)
    await agent.remove("iddata")
    assert names(host.state / "volumes") == names(host.state / "volume-records") == []


async def test_a_removed_volume_is_unmounted_and_deleted(host: Host) -> None:
    agent = host.agent()
    await host.ready(agent, SIZE)
    await agent.remove("iddata")
    assert names(host.state / "volumes") == names(host.state / "volume-records") == []
    assert loops(host.state) == []


async def test_a_bind_shows_the_directory_and_its_removal_deletes_nothing(
    host: Host, tmp_path: Path
) -> None:
    shown = tmp_path / "shown"
    shown.mkdir()
    options = {"type": "none", "o": "bind", "device": str(shown)}
    agent = host.agent()
    data = await host.ready(agent, options)
    assert names(data) == names(shown) == ["of-image"]  # filled, because it was empty
    (data / "of-image").unlink()
    (data / "mine").write_text("kept")
    assert names(await host.ready(agent, options)) == ["mine"]
    await agent.remove("iddata")
    assert (shown / "mine").read_text() == "kept"
    assert names(host.state / "volumes") == []


async def test_what_is_in_a_mount_point_that_lost_its_mount_is_not_deleted(
    host: Host, tmp_path: Path
) -> None:
    shown = tmp_path / "shown"
    shown.mkdir()
    agent = host.agent()
    data = await host.ready(agent, {"type": "none", "o": "bind", "device": str(shown)})
    command("umount", str(data))
    (data / "unknown").write_text("of somebody")
    with pytest.raises(OSError, match="not empty"):
        await agent.remove("iddata")
    assert (data / "unknown").read_text() == "of somebody"


async def test_flags_and_options_of_the_file_system_are_applied(host: Host) -> None:
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=1000,nosuid,noexec"}
    data = await host.ready(host.agent(), options, nocopy=True)
    assert data.stat().st_uid == 1000
    found = os.statvfs(data)
    assert found.f_blocks * found.f_frsize == MIB
    assert found.f_flag & os.ST_NOSUID
    assert found.f_flag & os.ST_NOEXEC


async def test_a_bind_may_be_read_only(host: Host, tmp_path: Path) -> None:
    (tmp_path / "shown").mkdir()
    options = {"type": "none", "o": "bind,ro", "device": str(tmp_path / "shown")}
    data = await host.ready(host.agent(), options)
    with pytest.raises(OSError, match="Read-only"):
        (data / "file").touch()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"type": "nosuchfs", "device": "x"},
            "volume data: cannot mount x: this host's kernel has no file system nosuchfs",
        ),
        (
            {"type": "tmpfs", "device": "tmpfs", "o": "nosuchoption=1"},
            "volume data: cannot mount tmpfs: Invalid argument: the file system tmpfs does not",
        ),
        (
            {"type": "none", "device": "/no/such", "o": "bind"},
            "volume data: cannot mount /no/such: No such file or directory",
        ),
        (
            {"type": "nfs", "device": ":/x", "o": "addr=no.such.host.invalid"},
            "volume data: no address of no.such.host.invalid",
        ),
    ],
)
async def test_an_error_of_the_kernel_names_the_device_and_the_reason(
    host: Host, options: dict[str, str], told: str
) -> None:
    with pytest.raises(RuntimeFailed) as failed:
        await host.ready(host.agent(), options)
    assert str(failed.value).startswith(told)


@pytest.mark.parametrize("kind", ["nfs", "cifs"])
async def test_a_server_s_files_are_not_for_user_namespaces(host: Host, kind: str) -> None:
    share = {"nfs": "127.0.0.1:/x", "cifs": "//127.0.0.1/x"}[kind]
    asked = record(Mount(source="data", target="/data"), Driver(kind, {"share": share}))
    container = replace(asked.spec.container_spec, userns_mode="auto")
    asked = replace(asked, spec=replace(asked.spec, container_spec=container))
    told = f"volume data: the kernel maps no owners of {kind} for --userns: leave --userns out"
    with pytest.raises(RuntimeFailed, match=told):
        await host.agent().ready(asked, (), lambda text: None)
    assert not host.path().exists()


async def test_a_fill_of_a_foreign_file_system_that_was_interrupted_begins_again(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = tmp_path / "shown"
    shown.mkdir()

    async def half(source: int, into: Path) -> None:
        (into / "half").write_text("")
        raise RuntimeFailed("interrupted")

    monkeypatch.setattr(filling, "copy", half)
    options = {"type": "none", "o": "bind", "device": str(shown)}
    with pytest.raises(RuntimeFailed, match="interrupted"):
        await host.ready(host.agent(), options)
    monkeypatch.undo()
    assert names(await host.ready(host.agent(), options)) == ["half", "of-image"]


async def test_the_next_agent_finds_mounts_and_unmounts_those_that_nothing_has(host: Host) -> None:
    await host.ready(host.agent(), SIZE)
    returned = host.agent()
    assert returned.mounts.mounted == {"iddata"}
    await returned.release("iddata", lambda: ())
    assert mounts_below(str(host.path())) == []
    assert returned.mounts.mounted == set()


async def test_a_bind_needs_its_source_unless_it_is_to_be_made(host: Host, tmp_path: Path) -> None:
    missing, agent = tmp_path / "a" / "b", host.agent()

    async def bound(*, create: bool) -> str:
        options = BindOptions(create_mountpoint=create)
        mount = Mount(type=MountType.BIND, source=str(missing), target="/m", bind_options=options)
        found = await agent.ready(record(mount, Driver()), (), lambda text: None)
        return found.paths["/m"]

    told = f'invalid mount config for type "bind": bind source path does not exist: {missing}'
    with pytest.raises(RuntimeFailed) as failed:
        await bound(create=False)
    assert str(failed.value) == told
    assert not missing.exists()
    assert await bound(create=True) == await bound(create=False) == str(missing)
    assert missing.is_dir()


async def test_files_of_a_volume_without_a_container_are_mounted_for_work_on_them(
    host: Host, tmp_path: Path
) -> None:
    agent = host.agent()
    (tmp_path / "shown").mkdir()
    bound = {"type": "none", "o": "bind", "device": str(tmp_path / "shown")}
    agent.learn({"idbound": Driver(options=bound)})
    for options, name in ((SIZE, "data"), (bound, "bound"), ({}, "plain")):
        await host.ready(agent, options, name)
        await agent.release(f"id{name}", lambda: ())
        async with agent.held(f"id{name}", name) as files:
            await agent.release(f"id{name}", lambda: ())
            assert names(files) == ["of-image"]
        await agent.release(f"id{name}", lambda: ())
        assert mounts_below(str(host.path(name))) == []
    for unknown in ("bound", "none"):
        with pytest.raises(RuntimeFailed, match=f"volume {unknown}"):
            async with host.agent().held(f"id{unknown}", unknown):
                pass


def measuring(agent: Volumes, outbox: Outbox) -> Measuring:
    return agent.measuring(outbox, tuple, SystemClock())


async def test_directories_are_walked_and_file_systems_say_what_they_use(
    host: Host, tmp_path: Path
) -> None:
    agent, shown = host.agent(), tmp_path / "shown"
    shown.mkdir()
    plain = await host.ready(agent, {}, "plain")
    bound = {"type": "none", "o": "bind", "device": str(shown)}
    for data in (plain, await host.ready(agent, SIZE), await host.ready(agent, bound, "bound")):
        write(data / "file", 2 * MIB)
        os.link(data / "file", data / "same")
        (data / "holes").touch()
        os.truncate(data / "holes", 64 * MIB)
    work = measuring(agent, Outbox())
    for _ in range(3):
        await work.step()
    found = dict(work.measured.values())
    for name in ("plain", "bound"):
        assert 2 * MIB <= found[name].bytes < 3 * MIB
        assert found[name].inodes == 3  # of the image, file, holes
    assert 2 * MIB <= found["data"].bytes < 12 * MIB  # with what ext4 needs for itself
