"""The dataplane in memory fulfils the contract; links can be cut and rules changed."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import msgspec
import pytest

from agent.network.base import NetworkFailed, Underlay
from agent.network.fake import FakeDataplane
from agent.network.filter.table import Table, whole
from agent.network.overlay.fake import Fabric
from pyswarm_core.identity.certificates import EncryptionKey
from pyswarm_core.ids import TaskId
from pyswarm_core.states import Capability
from tests.unit.agent.network.contracts import pathmtu
from tests.unit.agent.network.contracts.bench import (
    ADDRESSES,
    APP,
    OTHER,
    A,
    B,
    attach,
    check,
    overlay,
    sync,
    sync_these,
)
from tests.unit.agent.network.contracts.dataplane import DataplaneContract
from tests.unit.agent.network.contracts.fastpath import FastPathContract
from tests.unit.agent.network.contracts.filter import FilterContract
from tests.unit.agent.network.contracts.overlay import OverlayContract
from tests.unit.agent.network.contracts.pathmtu import PathMtuContract
from tests.unit.agent.network.contracts.vips import VipsContract

T = TypeVar("T")


class FakeBench:
    def __init__(self) -> None:
        self.fabric = Fabric()
        self.sizes = {pathmtu.NOBODY: 0}
        self.planes = [self._plane(number, fast_path=True) for number in (1, 2)]

    def _plane(self, number: int, *, fast_path: bool) -> FakeDataplane:
        underlay = Underlay(address=self.address(number))
        plane = FakeDataplane(self.fabric, underlay, fast_path=fast_path)
        plane.path_mtu.sizes = self.sizes
        return plane

    def address(self, number: int) -> str:
        return f"192.168.77.{10 + number}"

    def dataplane(self, number: int) -> FakeDataplane:
        return self.planes[number - 1]

    def restart(self, number: int, *, fast_path: bool = True) -> None:
        before, now = self.dataplane(number), self._plane(number, fast_path=fast_path)
        now.overlay.kernel, now.overlay.tasks = before.overlay.kernel, before.overlay.tasks
        self.planes[number - 1] = now

    def run(self, number: int, work: Callable[[], Awaitable[T]]) -> T:
        async def body() -> T:
            return await work()

        return asyncio.run(body())

    def reaches(self, number: int, task_id: TaskId, address: str) -> bool:
        return self.fabric.reaches(self.address(number), task_id, address)

    def answers(self, number: int, task_id: TaskId, address: str) -> set[str]:
        return self.dataplane(number).answers(task_id, address)

    def rules(self, number: int) -> str:
        return listed(self.dataplane(number).filter.table)

    def fast_path_rules(self, number: int) -> str:
        return listed(self.dataplane(number).fast_path.table)

    def disturb_rules(self, number: int) -> None:
        self.dataplane(number).filter.disturbed = True

    def disturb_fast_path(self, number: int) -> None:
        self.dataplane(number).fast_path.disturbed = True

    def disturb_task(self, number: int, task_id: TaskId) -> None:
        self.dataplane(number).vips.disturbed_tasks.add(task_id)

    @contextmanager
    def narrow(self, number: int, size: int) -> Iterator[None]:
        self.sizes[self.address(number)] = size
        yield
        del self.sizes[self.address(number)]


def listed(table: Table | None) -> str:
    return whole("t", table) if table else ""


@pytest.fixture
def bench() -> FakeBench:
    return FakeBench()


class TestFake(DataplaneContract):
    pass


class TestFakeOverlay(OverlayContract):
    pass


class TestFakeFilter(FilterContract):
    pass


class TestFakeVips(VipsContract):
    pass


class TestFakeFastPath(FastPathContract):
    pass


class TestFakePathMtu(PathMtuContract):
    pass


def joined(bench: FakeBench) -> FakeBench:
    for number, task in ((1, A), (2, B)):
        sync(bench, number, APP)
        attach(bench, number, task, APP, f"10.128.{number}.2")
    return bench


def test_a_cut_link_separates_tasks(bench: FakeBench) -> None:
    joined(bench).fabric.cut.add(frozenset((bench.address(1), bench.address(2))))
    assert not bench.reaches(1, A, "10.128.2.2")


@pytest.mark.parametrize("table", ["routes", "neighbours", "fdb"])
def test_a_lost_entry_separates_tasks_until_synced(bench: FakeBench, table: str) -> None:
    plane = joined(bench).dataplane(2).overlay
    plane.kernel = msgspec.structs.replace(plane.kernel, **{table: frozenset()})
    assert check(bench, 2) != ()
    assert not bench.reaches(1, A, "10.128.2.2"), "the answer finds no route back"
    sync(bench, 2, APP)
    assert bench.reaches(1, A, "10.128.2.2")


def test_a_kernel_that_cannot_encrypt_refuses_as_the_real_one_does() -> None:
    bench = FakeBench()
    for plane in bench.planes:
        plane.overlay.lacks = {Capability.ESP: "this host's kernel has no IPsec ESP"}
    TestFake().test_an_encrypted_network_reaches_or_refuses_its_tasks_and_harms_no_other(bench)


def test_a_kernel_without_ipv6_refuses_dual_stack_networks_alone(bench: FakeBench) -> None:
    for number, task in ((1, A), (2, B)):
        bench.dataplane(number).overlay.lacks = {Capability.IPV6: "this host's kernel has no IPv6"}
        dual = msgspec.structs.replace(overlay(bench, number, OTHER), subnet6="fd00:129::/64")
        sync_these(bench, number, overlay(bench, number, APP), dual)
        with pytest.raises(NetworkFailed, match=r"^network other is dual-stack: .* no IPv6$"):
            attach(bench, number, task, OTHER, f"10.129.{number}.2")
        attach(bench, number, task, APP, f"10.128.{number}.2")
    assert bench.reaches(1, A, "10.128.2.2")


@pytest.mark.parametrize("encrypted", [False, True])
def test_where_packets_are_too_small_for_ipv6_a_dual_stack_network_is_refused(
    bench: FakeBench, encrypted: bool
) -> None:
    keys = (EncryptionKey(number=1, secret=bytes(20)),) if encrypted else ()
    dual = msgspec.structs.replace(overlay(bench, 1, APP, keys), subnet6="fd00:128::/64")
    plane = bench.dataplane(1).overlay
    # VXLAN adds 50 bytes; ESP adds 84 in total.
    plane.underlay_mtu = 1364 if encrypted else 1330
    sync_these(bench, 1, dual)
    attach(bench, 1, A, APP, ADDRESSES[A])
    plane.underlay_mtu -= 4 if encrypted else 1
    sync_these(bench, 1, dual)
    with pytest.raises(NetworkFailed, match=r"^network app is dual-stack, .* 1280 bytes"):
        attach(bench, 1, B, APP, "10.128.1.3")


def test_hosts_with_other_keys_do_not_understand_each_other(bench: FakeBench) -> None:
    for number, task in ((1, A), (2, B)):
        key = EncryptionKey(number=1, secret=bytes((number,)) * 20)
        desired = overlay(bench, number, APP, (key,))
        asyncio.run(bench.dataplane(number).sync([desired]))
        attach(bench, number, task, APP, f"10.128.{number}.2")
    assert not bench.reaches(1, A, "10.128.2.2")
