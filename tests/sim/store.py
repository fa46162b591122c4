"""etcd as its clients meet it: `MemoryKv` behind a network, with everything that can go wrong.

A request may be refused, lost, slow or, worst, carried out without its client ever hearing of it,
perhaps long after the client gave up. Leases run by the server's clock.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from controller.store.base import (
    KeyValue,
    Lease,
    LeaseId,
    Outcome,
    Revision,
    Snapshot,
    StoreAmbiguous,
    StoreError,
    StoreStatus,
    StoreUnavailable,
    Txn,
)
from controller.store.memory import MemoryKv
from pyswarm_core.clock import NEVER, SECOND
from tests.sim.clock import Scheduler
from tests.sim.marks import Marks
from tests.sim.net import Net
from tests.sim.options import Options
from tests.sim.process import Process
from tests.sim.rand import Chance

T = TypeVar("T")
NAME = "etcd"
TIMEOUT = 2 * SECOND
POLL_S = 1.0


class Observer(Protocol):
    """Who looks at every transaction before and after it is applied."""

    def arriving(self, client: Process, txn: Txn) -> None:
        """It is about to be tried."""
        ...

    def applied(self, client: Process, txn: Txn, outcome: Outcome) -> None:
        """It was tried."""
        ...


class Etcd:
    """The server."""

    def __init__(self, scheduler: Scheduler, marks: Marks) -> None:
        self.kv = MemoryKv()
        self.up = True
        self.observer: Observer | None = None
        self.marks = marks
        self._scheduler = scheduler
        self._watching: list[Callable[[], None]] = []
        self._expiry = NEVER
        self.kv.listeners.append(self._changed)

    def commit(self, client: Process, txn: Txn) -> Outcome:
        """Try a transaction, watched by the observer."""
        if self.observer is not None:
            self.observer.arriving(client, txn)
        outcome = self.kv.commit(txn)
        if self.observer is not None:
            self.observer.applied(client, txn, outcome)
        return outcome

    def plan_expiry(self) -> None:
        """Call `expire` when the next lease is due."""
        due = self.kv.next_expiry()
        if due < self._expiry:
            self._expiry = due
            self._scheduler.at(due, self._expire)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call once, at the next revision."""
        self._watching.append(callback)

    def stop(self) -> None:
        """Nobody answers any more; what is stored stays."""
        self.up = False

    def restart(self) -> None:
        """Answer again."""
        self.up = True
        self._expire()

    def compact(self) -> None:
        """Forget all history."""
        self.kv.compact(self.kv.revision)

    def _expire(self) -> None:
        self._expiry = NEVER
        if self.up:
            before = self.kv.revision
            self.kv.expire(self._scheduler.now)
            if self.kv.revision != before:
                self.marks.hit("lease expired")
            self.plan_expiry()

    def _changed(self) -> None:
        watching, self._watching = self._watching, []
        for callback in watching:
            callback()


class SimStore:
    """One process's client: a Store."""

    def __init__(
        self, etcd: Etcd, net: Net, process: Process, chance: Chance, options: Options
    ) -> None:
        self.etcd = etcd
        self.process = process
        self._net = net
        self._chance = chance
        self._options = options
        self._host = process.name

    async def get(self, key: bytes) -> KeyValue | None:
        return await self._call(lambda kv: kv.get(key))

    async def read(self, prefix: bytes, revision: Revision | None = None) -> Snapshot:
        return await self._call(lambda kv: kv.read(prefix, revision))

    async def commit(self, txn: Txn) -> Outcome:
        return await self._call(lambda _: self.etcd.commit(self.process, txn), write=True)

    async def wait_deleted(self, key: bytes, since: Revision) -> None:
        while not await self._call(lambda kv: kv.deleted_since(key, since)):
            await self._changed()

    async def grant_lease(self, ttl_s: int) -> Lease:
        return await self._call(lambda kv: kv.grant(ttl_s, self._net.scheduler.now), write=True)

    async def keep_lease(self, lease: LeaseId) -> int:
        return await self._call(lambda kv: kv.keep(lease, self._net.scheduler.now), write=True)

    async def revoke_lease(self, lease: LeaseId) -> None:
        await self._call(lambda kv: kv.revoke(lease), write=True)

    async def compact(self, revision: Revision) -> None:
        await self._call(lambda kv: kv.compact(revision), write=True)

    async def status(self) -> StoreStatus:
        return await self._call(lambda kv: StoreStatus("sim", kv.revision, True, kv.size_bytes()))

    async def close(self) -> None:
        """Nothing is held."""

    async def _changed(self) -> None:
        """The next revision, or the time to see whether the server still answers."""
        changed = self.process.create_future()

        def tell() -> None:
            if not self.process.dead and not changed.done():
                changed.set_result(None)

        self.etcd.on_change(tell)
        try:
            async with asyncio.timeout(POLL_S):
                await changed
        except TimeoutError:
            return

    async def _call(self, act: Callable[[MemoryKv], T], *, write: bool = False) -> T:
        """Carry `act` to the server and its answer back, as well as both ways allow."""
        answer: asyncio.Future[T] = self.process.create_future()
        if not self._net.send(self._host, NAME, lambda: self._serve(act, answer)):
            self.etcd.marks.hit("store request lost")
        late = self.process.call_later(TIMEOUT / SECOND, self._give_up, answer, write)
        try:
            return await answer
        finally:
            late.cancel()

    def _give_up(self, answer: "asyncio.Future[Any]", write: bool) -> None:
        if not answer.done():
            text = "no answer in time"
            answer.set_exception(StoreAmbiguous(text) if write else StoreUnavailable(text))

    def _serve(self, act: Callable[[MemoryKv], T], answer: "asyncio.Future[T]") -> None:
        if not self.etcd.up:
            self._reply(lambda: _fail(answer, StoreUnavailable("connection refused")))
            return
        if answer.done() or self.process.dead:
            self.etcd.marks.hit("store request arrived after its client gave up")
        try:
            result = act(self.etcd.kv)
        except StoreError as error:
            failure = error
            self._reply(lambda: _fail(answer, failure))
        else:
            if self._chance.hits(self._options.reply_lost) and not self._net.calm:
                self.etcd.marks.hit("reply lost")
            else:
                self._reply(lambda: _succeed(answer, result))
        finally:
            self.etcd.plan_expiry()

    def _reply(self, event: Callable[[], None]) -> None:
        def arrive() -> None:
            if not self.process.dead:
                event()

        self._net.send(NAME, self._host, arrive)


def _succeed(answer: "asyncio.Future[T]", result: T) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: "asyncio.Future[T]", error: StoreError) -> None:
    if not answer.done():
        answer.set_exception(error)
