"""The etcd store keeps the same contract as memory, on a real etcd behind a proxy."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import pytest

from controller.store.base import Store
from controller.store.etcd import EtcdStore
from controller.store.etcd_endpoints import EtcdSettings
from tests.fixtures.etcd import EtcdProcess
from tests.fixtures.wire import Wire
from tests.unit.controller.store.contract import StoreContract

_numbers = count()


class EtcdRig:
    """See the contract's Rig. Its store reaches etcd through a wire, its writer does not."""

    def __init__(self, etcd: EtcdProcess, wire: Wire) -> None:
        self.etcd = etcd
        self.wire = wire
        self.store: Store = EtcdStore(EtcdSettings((wire.endpoint,)))
        self.writer: Store = EtcdStore(EtcdSettings((etcd.endpoint,)))
        self.prefix = b"/test-%d/" % next(_numbers)

    async def cut_waits(self) -> None:
        self.wire.cut()

    async def go_away(self) -> None:
        self.wire.is_down = True
        self.wire.cut()

    @asynccontextmanager
    async def losing_replies(self) -> AsyncIterator[None]:
        await self.store.get(b"connected?")
        self.wire.swallows_replies = True
        yield
        self.wire.swallows_replies = False
        self.wire.cut()

    async def pass_time(self, seconds: int) -> None:
        """Time is real here: the test waits for what has to happen."""

    async def registered_waits(self) -> int:
        return await asyncio.to_thread(self.etcd.watcher_count)


@pytest.fixture
async def rig(shared_etcd: EtcdProcess) -> AsyncIterator[EtcdRig]:
    async with Wire(shared_etcd.port) as wire:
        rig = EtcdRig(shared_etcd, wire)
        yield rig
        await rig.store.close()
        await rig.writer.close()


class TestEtcdStore(StoreContract):
    """Everything every store promises."""


async def test_the_members_are_known_by_their_urls(shared_etcd: EtcdProcess) -> None:
    async with EtcdStore(EtcdSettings((shared_etcd.endpoint,))) as store:
        urls = await store.members()
    assert f"http://127.0.0.1:{shared_etcd.port}" in urls
    assert len(urls) >= 2
