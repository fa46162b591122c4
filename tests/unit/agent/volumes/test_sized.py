"""Copies of volumes with a size, with an agent that dies between any two steps of a replacement."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent.runtime.base import RuntimeFailed
from agent.volumes import files as files_module
from agent.volumes import mounted as mounted_module
from agent.volumes import store as store_module
from agent.volumes.children import Children
from agent.volumes.files import VolumeFiles
from agent.volumes.mounted import Mounts
from agent.volumes.store import VolumeStore
from agent.volumes.volumes import Volumes
from pyswarm_core.errors import Conflict, Unavailable
from pyswarm_core.volumes.drivers import Backing
from pyswarm_core.volumes.limits import VOLUME_FILL_MAX, VOLUME_MOUNT_MAX

ID = "v1"
SIZE = 16 << 20


class Killed(BaseException):
    """The agent was killed."""


class FakeChildren(Children):
    """File systems without a kernel: the text of an image is what is in it."""

    def __init__(self) -> None:
        super().__init__()
        self.mounted: dict[str, Path] = {}
        """Images, by mount point. They survive the agent."""
        self.asked: list[tuple[str, str, int]] = []
        self.busy: set[str] = set()
        self.fails: dict[str, str] = {}
        self.before: Callable[[], None] = lambda: None

    async def ask(self, work: str, limit: int = 0, **request: Any) -> Mapping[str, Any]:
        self.before()
        target = str(request["target"])
        self.asked.append((work, Path(target).name, limit))
        if told := self.fails.get(work):
            raise RuntimeFailed(told)
        if work == "make":
            self.mounted.pop(target, None)
            Path(request["image"]).write_text("")
        elif work == "loop":
            self.mounted.setdefault(target, Path(request["image"]))
        elif work == "unmount":
            return {"busy": self._unmounted(target, lazy=request["lazy"])}
        return {"empty": True}

    def _unmounted(self, target: str, *, lazy: bool) -> bool:
        if target in self.busy and not lazy:
            return True
        for point in self.below(target):
            del self.mounted[point]
        return False

    def below(self, directory: str) -> list[str]:
        return [one for one in self.mounted if f"{one}/".startswith(f"{directory}/")]


class Host:
    """A state directory, and the agent over it."""

    def __init__(self, top: Path, children: FakeChildren) -> None:
        self.store = VolumeStore(top / "state")
        self.store.prepare()
        self.children = children
        mounts = Mounts(self.store, children)
        mounts.mounted.update({ID} if children.mounted else ())
        self.volumes = Volumes(self.store, top / "run", lambda one: top / one, children, mounts)
        self.files = VolumeFiles(self.volumes, top / "run", dict)
        self.paths = self.store.paths(ID)

    def close(self) -> None:
        self.files.close()
        self.volumes.close()

    async def opened(self) -> Path:
        return await self.volumes.mounts.ready(ID, "data", Backing(size=SIZE), None)

    async def made(self, text: str) -> None:
        await self.opened()
        self.paths.image.write_text(text)

    async def received(self, text: str) -> None:
        async with self.files.receiving(ID, "data", SIZE):
            self.paths.arriving.write_text(text)
            await self.files.replace(ID, "data")

    def left(self) -> list[str]:
        return sorted(path.name for path in self.paths.directory.iterdir())


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> FakeChildren:
    made = FakeChildren()
    monkeypatch.setattr(mounted_module, "mounts_below", made.below)
    return made


@pytest.fixture
def host(tmp_path: Path, children: FakeChildren) -> Host:
    return Host(tmp_path, children)


def dying_after(patch: pytest.MonkeyPatch, children: FakeChildren, survived: int) -> None:
    """The agent dies at the next step after so many: on files, or of a process. From then on it
    does nothing at all.
    """
    left = survived

    def step() -> None:
        nonlocal left
        if left <= 0:
            raise Killed
        left -= 1

    def dying(holder: object, name: str) -> None:
        real = getattr(holder, name)

        def counted(*args: object, **kwargs: object) -> object:
            step()
            return real(*args, **kwargs)

        patch.setattr(holder, name, counted)

    for name in ("mkdir", "open", "rename", "unlink"):
        dying(Path, name)
    for name in ("remove_tree", "_sync", "_sync_file"):
        dying(store_module, name)
    patch.setattr(children, "before", step)


STEPS = 22
"""More than there are."""


@pytest.mark.parametrize("survived", range(STEPS))
@pytest.mark.parametrize("had", [True, False], ids=["replaced", "new"])
async def test_an_agent_that_dies_anywhere_has_the_former_copy_or_the_new_one(
    tmp_path: Path,
    children: FakeChildren,
    monkeypatch: pytest.MonkeyPatch,
    survived: int,
    had: bool,
) -> None:
    host = Host(tmp_path, children)
    if had:
        await host.made("old")
    with monkeypatch.context() as patch:
        dying_after(patch, children, survived)
        with suppress(Killed):
            await host.received("new")
    host.close()
    host = Host(tmp_path, children)
    await host.files.tidy()
    is_there = host.store.is_recorded(ID)
    assert is_there or not had
    if is_there:
        assert host.store.complete(ID, "data") == host.paths.data
        assert host.paths.image.read_text() in (("old", "new") if had else ("new",))
        assert host.left() == ["_data", "image"]
    await host.opened()
    assert children.mounted == {str(host.paths.data): host.paths.image}
    await host.received("last")
    assert host.paths.image.read_text() == "last"
    assert host.left() == ["_data", "image"]
    assert children.mounted == {}
    host.close()


async def test_every_step_of_a_replacement_was_one_at_which_the_agent_died(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    await host.made("old")
    with monkeypatch.context() as patch:
        dying_after(patch, host.children, STEPS - 1)
        await host.received("new")
    assert host.paths.image.read_text() == "new"


async def test_files_are_on_disk_before_they_take_the_place_of_others(host: Host) -> None:
    await host.made("old")
    host.children.asked.clear()
    await host.received("new")
    assert host.children.asked == [
        ("make", "receiving", VOLUME_MOUNT_MAX),
        ("loop", "receiving", 0),
        ("unmount", "receiving", VOLUME_FILL_MAX),
        ("unmount", "_data", 0),
    ]


@pytest.mark.parametrize("name", ["_data", "receiving"])
async def test_a_program_of_the_host_that_is_in_it_delays_nothing(host: Host, name: str) -> None:
    await host.made("old")
    host.children.busy.add(str(host.paths.directory / name))
    await host.received("new")
    assert host.children.mounted == {}
    assert host.paths.image.read_text() == "new"


async def test_files_that_cannot_be_written_to_the_disk_replace_nothing(host: Host) -> None:
    await host.made("old")
    host.children.fails["unmount"] = "Input/output error"
    with pytest.raises(Unavailable, match="volume data: Input/output error"):
        await host.received("new")
    assert host.paths.image.read_text() == "old"
    host.children.fails.clear()
    await host.files.tidy()
    assert host.left() == ["_data", "image"]


async def test_a_host_that_makes_no_file_system_says_what_it_lacks(host: Host) -> None:
    host.children.fails["make"] = "this host has no mkfs.ext4: install e2fsprogs"
    with pytest.raises(Conflict, match=r"volume data: this host has no mkfs\.ext4: install"):
        await host.received("new")
    assert host.left() == []


async def test_a_reader_that_goes_on_keeps_the_copy(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "CLEAN_S", 0.01)
    await host.made("old")
    async with host.files.directory(ID, "data", SIZE):
        with pytest.raises(Unavailable, match="is being backed up, or files are being copied"):
            await host.received("new")
        assert host.paths.image.read_text() == "old"
        assert str(host.paths.data) in host.children.mounted
    await host.received("new")
    assert host.paths.image.read_text() == "new"


async def test_an_unused_volume_stays_mounted_while_it_is_received(host: Host) -> None:
    async with host.files.receiving(ID, "data", SIZE) as path:
        await host.volumes.release(ID, set)
        assert str(path) in host.children.mounted
    await host.volumes.release(ID, set)
    assert host.children.mounted == {}
    assert ID not in host.volumes.mounts.mounted


async def test_a_request_without_a_size_keeps_that_of_the_copy(host: Host) -> None:
    await host.made("x" * SIZE)
    made: list[int] = []

    async def ask(work: str, limit: int = 0, **request: Any) -> Mapping[str, Any]:
        made.extend([request["bytes"]] if work == "make" else ())
        return {"busy": False, "empty": True}

    host.children.ask = ask  # type: ignore[method-assign]
    async with host.files.receiving(ID, "data"):
        pass
    assert made == [SIZE]


async def test_a_mount_of_another_file_system_is_not_replaced(host: Host) -> None:
    host.paths.directory.mkdir()
    host.paths.foreign.touch()
    with pytest.raises(Conflict, match="volume data is a mount of another file system"):
        await host.received("new")


async def test_a_copy_that_is_removed_while_it_is_received_is_no_copy(host: Host) -> None:
    async with host.files.receiving(ID, "data", SIZE):
        await host.volumes.remove(ID)
        with pytest.raises(Unavailable):
            await host.files.replace(ID, "data")
    assert not host.store.is_recorded(ID)
