"""A lease is renewed while the loop is busy, not while it hangs; a follower names its leader."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from controller.leader.election import Candidate, Term, encode_candidate, holds, step_down_at
from controller.leader.persistence import campaign
from controller.leader.persistence.aside import in_thread
from controller.leader.persistence.campaign import Elector
from controller.leader.persistence.saving import Deposed
from controller.store.base import (
    Compacted,
    Lease,
    LeaseExpired,
    LeaseId,
    Put,
    Revision,
    StoreError,
    StoreUnavailable,
    Txn,
)
from controller.store.memory import MemoryKv
from controller.store.memory_store import MemoryStore
from pyswarm_core.aio.system import SteadyClock
from pyswarm_core.clock import SECOND, Clock, Instant
from pyswarm_core.keys import Keys
from pyswarm_core.limits import LEADER_TTL, LEADER_TTL_MEMORY, LOOP_SILENCE_MAX

ME = Candidate("me", "one", "192.0.2.1:2377")
OTHER = Candidate("other", "two", "192.0.2.2:2377")
TTL_S = 600
PATIENCE_S = 60.0


class Renewed(MemoryStore):
    """Counts renewals; each is confirmed, or none."""

    def __init__(self, *, expired: bool = False) -> None:
        super().__init__(MemoryKv(), SteadyClock())
        self.renewals = 0
        self.renewed = threading.Event()
        self._expired = expired
        self.granted: list[int] = []
        self.answers = True

    async def grant_lease(self, ttl_s: int) -> Lease:
        self.granted.append(ttl_s)
        return await super().grant_lease(ttl_s)

    async def keep_lease(self, lease: LeaseId) -> int:
        self.renewals += 1
        self.renewed.set()
        if not self.answers:
            await asyncio.Event().wait()
        if self._away:
            raise StoreUnavailable("the store is unreachable")
        if self._expired:
            raise LeaseExpired(lease)
        return TTL_S


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = Instant(1_000 * SECOND)

    def now(self) -> Instant:
        return self.time


def elector_over(store: MemoryStore, clock: Clock) -> Elector:
    return Elector(store, Keys(), ME, clock, lambda _: None)


def due_term(now: Instant) -> Term:
    """Its renewal is due at once; it holds for long."""
    return Term(7, TTL_S * SECOND, 5, 5, Instant(now - TTL_S * SECOND // 2))


class Breaking(MemoryStore):
    """Another controller leads; the first waits for the end of its term fail."""

    def __init__(self, *failures: StoreError) -> None:
        super().__init__(MemoryKv(), SteadyClock())
        self.failures = list(failures)
        self.waiting = asyncio.Event()

    async def lead(self) -> LeaseId:
        lease = await self.grant_lease(TTL_S)
        put = Put(Keys().leader, encode_candidate(OTHER), lease.id)
        await self.commit(Txn(puts=(put,)))
        return lease.id

    async def wait_deleted(self, key: bytes, since: Revision) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.waiting.set()
        await super().wait_deleted(key, since)


@pytest.mark.parametrize(
    "failures",
    [(), (StoreUnavailable("the connection broke"),), (Compacted(Revision(7)),) * 2],
    ids=["none", "broken", "compacted"],
)
async def test_a_follower_names_its_leader_until_it_is_gone_whatever_breaks_its_wait(
    failures: tuple[StoreError, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "POLL_S", 3600.0)
    monkeypatch.setattr(campaign, "RETRY_S", 0.0)
    store, told = Breaking(*failures), list[str]()
    lease = await store.lead()
    elector = Elector(store, Keys(), ME, SteadyClock(), told.append)
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        winning = group.create_task(elector.win())
        await store.waiting.wait()
        assert told == [OTHER.addr] * (len(failures) + 1)
        await store.revoke_lease(lease)
        await winning
    assert told == [*[OTHER.addr] * (len(failures) + 1), ME.addr]


async def test_a_follower_reads_anew_when_its_wait_tells_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(campaign, "POLL_S", 0.01)
    store, told = Breaking(), list[str]()
    await store.lead()
    elector = Elector(store, Keys(), ME, SteadyClock(), told.append)
    winning = asyncio.create_task(elector.win())
    async with asyncio.timeout(PATIENCE_S):
        while len(told) < 3:  # noqa: ASYNC110  # nobody sets an event
            await asyncio.sleep(0.01)
    winning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await winning
    assert set(told) == {OTHER.addr}
    assert store.wait_count == 0


async def test_a_renewal_does_not_wait_for_the_leaders_loop() -> None:
    store, clock = Renewed(), SteadyClock()
    elector = elector_over(store, clock)
    keeping = asyncio.create_task(in_thread(elector.keep(due_term(clock.now()))))
    await asyncio.sleep(0)
    assert store.renewed.wait(PATIENCE_S)  # blocks this event loop until the thread has renewed
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping


async def test_a_loop_that_hangs_ends_the_term_before_the_next_renewal() -> None:
    store, clock = Renewed(), Hands()
    elector = elector_over(store, clock)
    term = due_term(clock.now())
    clock.time = Instant(clock.time + LOOP_SILENCE_MAX + 1)
    assert holds(term, clock.now())
    with pytest.raises(Deposed, match="did nothing for 10 s"):
        await elector.keep(term)
    assert store.renewals == 0


async def test_a_loop_that_runs_says_so() -> None:
    store, clock = Renewed(), Hands()
    elector = elector_over(store, clock)
    term = due_term(clock.now())
    clock.time = Instant(clock.time + LOOP_SILENCE_MAX + 1)
    living = asyncio.create_task(elector.live())
    await asyncio.sleep(0)
    keeping = asyncio.create_task(elector.keep(term))
    while not store.renewals:  # noqa: ASYNC110  # nobody sets an event on this loop
        await asyncio.sleep(0)
    for task in (living, keeping):
        task.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Wait; nobody sets an event on this loop."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def silent_term(store: Renewed, elector: Elector, clock: Hands) -> None:
    """Win a term in which a renewal is sent in time and not answered."""
    term, sent = await elector.win(), store.renewals
    clock.time = Instant(step_down_at(term) - 1_000_000)
    living = asyncio.create_task(elector.live())
    await asyncio.sleep(0)
    keeping = asyncio.create_task(elector.keep(term))
    await until(lambda: store.renewals > sent)
    clock.time = Instant(clock.time + term.ttl)
    with pytest.raises(Deposed):
        await keeping
    living.cancel()
    await elector.resign(term)


async def test_a_store_that_does_not_answer_in_time_makes_the_next_lease_longer() -> None:
    store, clock = Renewed(), Hands()
    store.answers = False
    elector = elector_over(store, clock)
    for _ in range(5):
        await silent_term(store, elector, clock)
    assert store.granted == [2, 4, 8, 16, 16]


async def test_a_controller_that_was_paused_does_not_make_the_next_lease_longer() -> None:
    store, clock = Renewed(), Hands()
    store.answers = False
    elector = elector_over(store, clock)
    term = await elector.win()
    clock.time = step_down_at(term)
    with pytest.raises(Deposed):
        await elector.keep(term)
    assert elector.ttl == LEADER_TTL


async def test_a_term_that_lasted_makes_the_next_lease_short_again() -> None:
    store, clock = Renewed(), Hands()
    store.answers = False
    elector = elector_over(store, clock)
    await silent_term(store, elector, clock)
    assert elector.ttl == 2 * LEADER_TTL
    store.answers = True
    term = await elector.win()
    clock.time = Instant(clock.time + LEADER_TTL_MEMORY)
    living = asyncio.create_task(elector.live())
    await asyncio.sleep(0)
    keeping = asyncio.create_task(elector.keep(term))
    await until(lambda: elector.ttl == LEADER_TTL)
    for task in (living, keeping):
        task.cancel()


async def test_a_store_that_is_down_does_not_make_the_next_lease_longer() -> None:
    store, clock = Renewed(), Hands()
    elector = elector_over(store, clock)
    term = await elector.win()
    store.set_away(True)
    clock.time = Instant(clock.time + term.ttl)
    with pytest.raises(Deposed):
        await elector.keep(term)
    assert elector.ttl == LEADER_TTL == 2 * SECOND


async def test_what_ends_the_lease_ends_the_term_from_its_thread() -> None:
    store, clock = Renewed(expired=True), SteadyClock()
    with pytest.raises(Deposed):
        await in_thread(elector_over(store, clock).keep(due_term(clock.now())))


async def test_work_aside_has_ended_when_it_was_cancelled() -> None:
    begun, ended = threading.Event(), threading.Event()

    async def work() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    aside = asyncio.create_task(in_thread(work()))
    await asyncio.sleep(0)
    assert begun.wait(PATIENCE_S)
    aside.cancel()
    with pytest.raises(asyncio.CancelledError):
        await aside
    assert ended.is_set()
