"""Who may change a volume's files while all of them are read or replaced."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.volumes import files as module
from agent.volumes.files import VolumeFiles
from agent.volumes.store import VolumeStore
from agent.volumes.volumes import Volumes
from pyswarm_core.errors import Conflict, Unavailable

ID = "v1"


class Host:
    """The volumes of a host; `tasks` are the names of those that have the volume."""

    def __init__(self, top: Path) -> None:
        self.store = VolumeStore(top / "state")
        self.store.prepare()
        self.volumes = Volumes(self.store, top / "run", lambda task_id: top / task_id)
        self.tasks: list[str] = []
        self.files = VolumeFiles(self.volumes, top / "run", self._records)

    def _records(self) -> dict[Any, Any]:
        return {
            name: SimpleNamespace(name=name, clean=False, ended=False, volumes={"data": ID})
            for name in self.tasks
        }


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    found = Host(tmp_path)
    yield found
    found.files.close()
    found.volumes.close()


async def test_a_volume_is_read_whole_once_no_container_has_it(host: Host) -> None:
    host.tasks = ["db.1.a"]
    entered = asyncio.Event()

    async def read() -> None:
        async with host.files.still(ID, "data"):
            entered.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(read())
        await asyncio.sleep(3 * module.CLEAN_PERIOD_S)
        assert not entered.is_set()
        host.tasks = []
    assert entered.is_set()


async def test_a_container_that_stays_ends_the_attempt(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLEAN_S", 0.0)
    host.tasks = ["db.1.a"]
    with pytest.raises(Unavailable, match=r"volume data is still used by db\.1\.a"):
        async with host.files.still(ID, "data"):
            raise AssertionError("a container has it")
    host.tasks = []
    with host.files.writing(ID, "data"):
        with pytest.raises(Unavailable, match="still used by a copy of files into it"):
            async with host.files.still(ID, "data"):
                raise AssertionError("files are being copied into it")
        with pytest.raises(Conflict, match="files are being copied into volume data"):
            async with host.files.receiving(ID, "data"):
                raise AssertionError("they would be lost")


async def test_nothing_is_copied_into_a_volume_that_is_read_whole_or_replaced(host: Host) -> None:
    async with host.files.still(ID, "data"):
        with pytest.raises(Unavailable, match="being moved"), host.files.writing(ID, "data"):
            raise AssertionError("the archive may lack it")
    async with host.files.receiving(ID, "data"):
        with pytest.raises(Unavailable, match="restored"), host.files.writing(ID, "data"):
            raise AssertionError("it would be replaced")
    with host.files.writing(ID, "data"), host.files.writing(ID, "data"):
        pass
    async with host.files.still(ID, "data"), host.files.still(ID, "data"):
        pass
