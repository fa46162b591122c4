"""The fake runtime keeps the contract of the real one."""

import pytest

from agent.runtime.base import Command, ContainerConfig, Stats
from agent.runtime.fake import CommandScript, FakeRuntime, Script
from tests.fixtures.runtime_contract import Behaviour, CommandBehaviour, RuntimeContract

COMMANDS = {
    CommandBehaviour.EXITS_WITH_7.name: CommandScript(code=7, output=b"hello\n"),
    CommandBehaviour.WRITES_4_MIB.name: CommandScript(code=3, output=bytes(4 << 20)),
    CommandBehaviour.WRITES_FILE.name: CommandScript(writes="/kept"),
    CommandBehaviour.LOOKS_FOR_FILE.name: CommandScript(looks_for="/kept"),
    CommandBehaviour.HANGS.name: CommandScript(takes_s=1000),
}
SCRIPTS = {
    Behaviour.RUNS: Script(commands=COMMANDS),
    Behaviour.EXITS_WITH_7: Script(exits_after_s=0, exit_code=7),
    Behaviour.IGNORES_TERM: Script(ignores=frozenset({15}), commands=COMMANDS),
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

    def command(self, behaviour: CommandBehaviour) -> Command:
        return Command(args=(behaviour.name,))

    async def stats(self, container_id: str) -> Stats | None:
        """A fake container is one process that uses nothing."""
        found = {one.id: one for one in await self.runtime.found()}
        if container_id not in found:
            return None
        memory = self.runtime.limits(container_id).memory_bytes
        return Stats(memory_limit_bytes=memory, pids=0 if found[container_id].exit else 1)


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


class TestFakeRuntime(RuntimeContract):
    """Runs the contract."""
