"""How much may be pushed to the fleet's registry."""

from pathlib import Path

import pytest

from controller.registry.storage import RegistryStorage
from controller.registry.upkeep import RegistryUpkeep
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.errors import Exhausted


def upload(root: Path, size: int) -> None:
    name = "docker/registry/v2/repositories/docker.io/library/web/_uploads/1/data"
    file = root / name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x" * size)


def test_an_upload_that_has_not_ended_counts(tmp_path: Path) -> None:
    upload(tmp_path, 300)
    storage = RegistryStorage(tmp_path)
    assert (storage.size(), storage.held()) == (0, 300)


async def test_a_quota_counts_what_has_just_come(tmp_path: Path) -> None:
    upkeep = RegistryUpkeep(tmp_path, 1000, SystemClock(), list)
    upload(tmp_path, 900)
    await upkeep.require_room()
    await upkeep.require_room(100)
    with pytest.raises(Exhausted, match="has 1kB of images, its quota is 1kB"):
        await upkeep.require_room(1)
