"""The fake runtime keeps the contract of the real one."""

import pytest

from agent.runtime.base import ContainerConfig
from agent.runtime.fake import FakeRuntime, Script
from tests.fixtures.runtime_contract import Behaviour, RuntimeContract

SCRIPTS = {
    Behaviour.RUNS: Script(),
    Behaviour.EXITS_WITH_7: Script(exits_after_s=0, exit_code=7),
    Behaviour.IGNORES_TERM: Script(ignores=frozenset({15})),
    Behaviour.NO_PROGRAM: Script(fails_create="executable file `/bin/nothing` not found"),
    Behaviour.BAD_PROGRAM: Script(fails_start="exec format error"),
    Behaviour.OUT_OF_MEMORY: Script(exits_after_s=0, exit_code=137, oom=True),
}


class FakeWorld:
    def __init__(self) -> None:
        self.runtime = FakeRuntime()

    def config(self, container_id: str, behaviour: Behaviour) -> ContainerConfig:
        self.runtime.scripts[container_id] = SCRIPTS[behaviour]
        return ContainerConfig(id=container_id, oci={}, layers=())


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


class TestFakeRuntime(RuntimeContract):
    """Runs the contract."""
