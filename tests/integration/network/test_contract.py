"""The kernel's dataplane keeps the contract."""

from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest

from agent.network.base import Dataplane
from pyswarm_core.ids import TaskId
from tests.integration.network.hosts import Rig, ping
from tests.integration.network.traffic import Listeners
from tests.unit.agent.network.contract import DataplaneContract

T = TypeVar("T")


class KernelBench:
    def __init__(self, rig: Rig) -> None:
        self._hosts = rig.hosts

    def address(self, number: int) -> str:
        return self._hosts[number - 1].address

    def dataplane(self, number: int) -> Dataplane:
        return self._hosts[number - 1].dataplane

    def run(self, number: int, work: Callable[[], Awaitable[T]]) -> T:
        async def body() -> T:
            return await work()

        return self._hosts[number - 1].run(body())

    def reaches(self, number: int, task_id: TaskId, address: str) -> bool:
        return ping(str(self._hosts[number - 1].directory / task_id), address, timeout_s=0.5)

    def answers(self, number: int, task_id: TaskId, address: str) -> set[str]:
        tasks = [
            str(host.directory / task)
            for host in self._hosts
            for task in host.run(host.dataplane.found())
        ]
        with Listeners(tasks) as listeners:
            caller = str(self._hosts[number - 1].directory / task_id)
            found: set[str] = set()
            # Where nobody answers once, nobody answers.
            for _ in range(30):
                if not (where := listeners.call(caller, address)):
                    break
                found.add(where)
            return found


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("contract"), 2)
    yield made
    made.close()


@pytest.fixture
def bench(rig: Rig) -> Iterator[KernelBench]:
    yield KernelBench(rig)
    for host in rig.hosts:
        for task in host.run(host.dataplane.found()):
            host.run(host.dataplane.detach(task))
        host.run(host.dataplane.sync(()))


class TestKernel(DataplaneContract):
    pass
