"""Which controllers live, as each of them learns it from the store."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from controller.leader.election import Candidate, encode_candidate
from controller.leader.persistence import registry
from controller.leader.persistence.registry import Registry
from controller.store.base import Put, Txn
from controller.store.memory import MemoryKv
from controller.store.memory_store import MemoryStore
from pyswarm_core.clock import MILLISECOND, SECOND
from pyswarm_core.keys import Keys
from pyswarm_core.limits import CONTROLLER_PERIOD, CONTROLLER_TTL, CONTROLLERS_MAX
from tests.unit.controller.store.test_memory_store import HandClock

KEYS = Keys()


class Fleet:
    """Controllers over one store."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.kv = MemoryKv()
        self.known: dict[str, tuple[str, ...]] = {}
        self.leader = ""
        self._turns = asyncio.Semaphore(0)
        self._news = asyncio.Event()

    @asynccontextmanager
    async def controller(self, name: str) -> AsyncIterator[MemoryStore]:
        store, me = MemoryStore(self.kv, self.clock), Candidate(name, name, f"{name}:1")
        work = asyncio.create_task(
            Registry(store, KEYS, me, self._hear(name), lambda: self._leads(name)).run()
        )
        try:
            yield store
        finally:
            work.cancel()
            await asyncio.wait([work])

    async def until(self, name: str, *known: str) -> None:
        while self.known.get(name) != tuple(f"{one}:1" for one in known):
            self._news.clear()
            await self._news.wait()

    async def turned(self, times: int) -> None:
        for _ in range(times):
            await self._turns.acquire()

    def _leads(self, name: str) -> bool:
        self._turns.release()
        return name == self.leader

    async def heard_of(self, name: str) -> tuple[str, ...]:
        while name not in self.known:
            self._news.clear()
            await self._news.wait()
        return self.known[name]

    def _hear(self, name: str) -> Callable[[tuple[str, ...]], None]:
        def hear(known: tuple[str, ...]) -> None:
            self.known[name] = known
            self._news.set()

        return hear


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "CONTROLLER_PERIOD", MILLISECOND)


async def test_every_controller_knows_all_that_live() -> None:
    fleet = Fleet()
    async with fleet.controller("a"):
        async with fleet.controller("b"):
            await fleet.until("a", "b")
            await fleet.until("b", "a")
        # It took its entry back.
        await fleet.until("a")


async def test_a_dead_controller_is_forgotten_with_its_lease() -> None:
    fleet = Fleet()
    async with fleet.controller("a"), fleet.controller("b") as dead:
        await fleet.until("a", "b")
        dead.set_away(True)
        fleet.clock.advance(CONTROLLER_TTL // SECOND + 1)
        await fleet.until("a")


async def test_who_was_known_stays_known_while_the_store_is_away() -> None:
    fleet = Fleet()
    async with fleet.controller("a") as store, fleet.controller("b") as other:
        await fleet.until("a", "b")
        for each in (store, other):
            each.set_away(True)
        fleet.clock.advance(CONTROLLER_TTL // SECOND + 1)
        await fleet.turned(10)
        assert fleet.known["a"] == ("b:1",)


async def test_what_is_told_is_bounded() -> None:
    fleet = Fleet()
    store = MemoryStore(fleet.kv, fleet.clock)
    for number in range(100):
        one = Candidate(str(number), "x", f"x{number:03}:1")
        put = Put(KEYS.controller(one.id), encode_candidate(one))
        await store.commit(Txn(puts=(put,)))
    async with fleet.controller("a"):
        assert len(await fleet.heard_of("a")) == CONTROLLERS_MAX - 1


async def test_nothing_is_written_while_nothing_changes_and_a_leader_has_no_entry() -> None:
    fleet = Fleet()
    async with fleet.controller("a"), fleet.controller("b") as store:
        await fleet.until("a", "b")
        await fleet.until("b", "a")
        revision = fleet.kv.revision
        await fleet.turned(10)
        assert fleet.kv.revision == revision
        fleet.leader = "b"
        fleet.clock.advance(CONTROLLER_TTL // SECOND - 1)
        await fleet.turned(6)
        fleet.clock.advance(2)
        await fleet.until("a")
        assert (await store.read(KEYS.controllers)).items[0].key == KEYS.controller("a")


def test_a_controller_that_misses_a_turn_is_not_forgotten() -> None:
    assert CONTROLLER_TTL >= 3 * CONTROLLER_PERIOD
