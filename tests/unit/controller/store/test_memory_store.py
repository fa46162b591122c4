"""The memory store keeps the contract, under a clock that only tests move."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from controller.store.base import Put, Store, StoreUnavailable, Txn
from controller.store.memory import MemoryKv
from controller.store.memory_store import MemoryStore
from pyswarm_core.clock import SECOND, Instant, after
from tests.unit.controller.store.contract import PATIENCE_S, StoreContract, put


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self._now = Instant(1_000 * SECOND)

    def now(self) -> Instant:
        return self._now

    def advance(self, seconds: int) -> None:
        self._now = after(self._now, seconds * SECOND)


class MemoryRig:
    """See the contract's Rig."""

    def __init__(self) -> None:
        kv = MemoryKv()
        self.clock = HandClock()
        self.memory = MemoryStore(kv, self.clock)
        self.store: Store = self.memory
        self.writer: Store = MemoryStore(kv, self.clock)
        self.prefix = b"/test/"

    async def cut_waits(self) -> None:
        self.memory.cut_waits()

    async def go_away(self) -> None:
        self.memory.set_away(True)

    @asynccontextmanager
    async def losing_replies(self) -> AsyncIterator[None]:
        self.memory.set_replies_lost(True)
        yield
        self.memory.set_replies_lost(False)

    async def pass_time(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.memory.kv.expire(self.clock.now())

    async def registered_waits(self) -> int:
        return self.memory.wait_count


@pytest.fixture
async def rig() -> AsyncIterator[MemoryRig]:
    rig = MemoryRig()
    yield rig
    await rig.store.close()
    await rig.writer.close()


class TestMemoryStore(StoreContract):
    """Everything every store promises."""


async def test_a_store_that_is_away_refuses_every_call(rig: MemoryRig) -> None:
    rig.memory.set_away(True)
    with pytest.raises(StoreUnavailable):
        await rig.store.get(b"a")
    with pytest.raises(StoreUnavailable):
        await rig.store.commit(Txn(puts=(Put(b"a", b""),)))
    rig.memory.set_away(False)
    assert await rig.store.get(b"a") is None


class Hurrying:
    """A clock that moves by 0.4 s whenever somebody looks."""

    def __init__(self) -> None:
        self._now = Instant(1_000 * SECOND)

    def now(self) -> Instant:
        self._now = after(self._now, 4 * SECOND // 10)
        return self._now


async def test_a_wait_expires_leases_when_nobody_else_looks() -> None:
    store = MemoryStore(MemoryKv(), Hurrying())
    lease = await store.grant_lease(1)
    made = await store.commit(Txn(puts=(Put(b"a", b"", lease.id),)))
    async with asyncio.timeout(PATIENCE_S):
        await store.wait_deleted(b"a", made.revision)


async def test_closing_the_store_lets_go_of_the_map(rig: MemoryRig) -> None:
    listeners = len(rig.memory.kv.listeners)
    store = MemoryStore(rig.memory.kv, rig.clock)
    await put(store, b"a")
    await store.close()
    assert len(rig.memory.kv.listeners) == listeners
