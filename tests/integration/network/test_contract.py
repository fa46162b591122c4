"""The kernel's dataplane and its parts fulfil their contracts."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

import pytest

from agent.network.dataplane import Dataplane
from pyswarm_core.ids import TaskId
from tests.integration.network.hosts import Rig, narrow, ping, sh
from tests.integration.network.traffic import Listeners
from tests.unit.agent.network.contracts.dataplane import DataplaneContract
from tests.unit.agent.network.contracts.fastpath import FastPathContract
from tests.unit.agent.network.contracts.filter import FilterContract
from tests.unit.agent.network.contracts.overlay import OverlayContract
from tests.unit.agent.network.contracts.pathmtu import PathMtuContract
from tests.unit.agent.network.contracts.vips import VipsContract

T = TypeVar("T")


class KernelBench:
    def __init__(self, rig: Rig) -> None:
        self._hosts = rig.hosts

    def address(self, number: int) -> str:
        return self._hosts[number - 1].address

    def dataplane(self, number: int) -> Dataplane:
        return self._hosts[number - 1].dataplane

    def restart(self, number: int, *, fast_path: bool = True) -> None:
        self._hosts[number - 1].restart(fast_path=fast_path)

    def rules(self, number: int) -> str:
        return self._listed(number, "inet")

    def fast_path_rules(self, number: int) -> str:
        return self._listed(number, "netdev")

    def _listed(self, number: int, family: str) -> str:
        host, table = self._hosts[number - 1], f"table {family} pyswarm_tst"
        there = table in host.nsenter("nft list tables").splitlines()
        return host.nsenter(f"nft list {table}") if there else ""

    def disturb_rules(self, number: int) -> None:
        self._hosts[number - 1].nsenter("nft delete table inet pyswarm_tst")

    def disturb_fast_path(self, number: int) -> None:
        self._hosts[number - 1].nsenter("nft delete table netdev pyswarm_tst")

    def disturb_task(self, number: int, task_id: TaskId) -> None:
        path = self._hosts[number - 1].directory / task_id
        sh(f"nsenter --net={path} nft add table inet somebody")

    def narrow(self, number: int, size: int) -> AbstractContextManager[None]:
        return narrow(number, size)

    def run(self, number: int, work: Callable[[], Awaitable[T]]) -> T:
        async def body() -> T:
            return await work()

        return self._hosts[number - 1].run(body())

    def reaches(self, number: int, task_id: TaskId, address: str) -> bool:
        return ping(str(self._hosts[number - 1].directory / task_id), address, timeout_s=2.0)

    def answers(self, number: int, task_id: TaskId, address: str) -> set[str]:
        tasks = [
            str(host.directory / task)
            for host in self._hosts
            for task in host.run(host.dataplane.found())
        ]
        with Listeners(tasks) as listeners:
            caller = str(self._hosts[number - 1].directory / task_id)
            found: set[str] = set()
            # Without an answer to one echo there is none to others.
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


class TestKernelOverlay(OverlayContract):
    pass


class TestNftFilter(FilterContract):
    pass


class TestNetlinkVips(VipsContract):
    pass


class TestNftFastPath(FastPathContract):
    pass


class TestEchoPathMtu(PathMtuContract):
    pass
