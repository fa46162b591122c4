"""Programs that cannot run, in real containers: the failure, and the exit, name path and cause."""

import platform
from pathlib import Path

import pytest

from agent.runtime.base import ContainerConfig, RuntimeFailed
from tests.fixtures.programs import CASES, Case, make_programs
from tests.fixtures.rootfs import make_rootfs
from tests.fixtures.runtime_contract import exit_of
from tests.integration.runtime.conftest import RealWorld


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_rootfs(tmp_path_factory.mktemp("image") / "rootfs")
    make_programs(root)
    return root


async def test_each_failure_names_path_and_cause(world: RealWorld) -> None:
    said = {case.command + case.dir: await failure(world, case) for case in CASES}
    expected = {case.command + case.dir: case.says for case in CASES}
    assert said == {
        key: says.replace("MACHINE", platform.machine()) for key, says in expected.items()
    }


async def made_and_started(world: RealWorld, config: ContainerConfig) -> None:
    await world.runtime.create(config)
    await world.runtime.start(config.id)


async def failure(world: RealWorld, case: Case) -> str:
    """What `create` or `start` raises; the exit of a container that was made says the same."""
    config = world.custom("a1", (case.command,), user=case.user, dir=case.dir)
    with pytest.raises(RuntimeFailed) as raised:
        await made_and_started(world, config)
    if await world.runtime.found():
        assert (await exit_of(world.runtime, "a1")).error == str(raised.value)
    await world.runtime.remove("a1", keep_logs=False)
    return str(raised.value)
