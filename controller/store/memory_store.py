"""The asynchronous face of `MemoryKv`: a Store for tests. SHELL (asyncio only).

Keeps the same contract as etcd's store, and can be told to misbehave: to be away, to lose the
reply of a commit, to cut its watches. Several stores over one `MemoryKv` are several clients.
"""

import asyncio
from collections import deque
from types import TracebackType
from typing import Self

from controller.store.base import (
    KeyValue,
    Lease,
    LeaseId,
    Outcome,
    Revision,
    Snapshot,
    StoreAmbiguous,
    StoreMisuse,
    StoreStatus,
    StoreUnavailable,
    Txn,
    WatchBatch,
)
from controller.store.memory import MemoryKv
from pyswarm_core.clock import NEVER, Clock, seconds

_LONGEST_WAIT_S = 3600.0


class MemoryStore:
    """A client of a `MemoryKv`. Lease expiry happens whenever a client looks or waits."""

    def __init__(self, kv: MemoryKv, clock: Clock) -> None:
        self.kv = kv
        self._clock = clock
        self._away = False
        self._replies_lost = False
        self._watches: set[MemoryWatch] = set()
        kv.listeners.append(self._wake)

    # Faults

    def set_away(self, away: bool) -> None:
        """While away every call raises StoreUnavailable and watches are silent."""
        self._away = away
        self._wake()

    def set_replies_lost(self, lost: bool) -> None:
        """While they are lost commits happen, but their callers get StoreAmbiguous."""
        self._replies_lost = lost

    def cut_watches(self) -> None:
        """Drop what is on its way to every watch; each resumes from its last batch."""
        for watch in self._watches:
            watch.cut()

    @property
    def watch_count(self) -> int:
        """Watches that are registered now."""
        return len(self._watches)

    # Store

    async def get(self, key: bytes) -> KeyValue | None:
        return self._reach().get(key)

    async def read(self, prefix: bytes, revision: Revision | None = None) -> Snapshot:
        return self._reach().read(prefix, revision)

    async def commit(self, txn: Txn) -> Outcome:
        outcome = self._reach().commit(txn)
        if self._replies_lost:
            raise StoreAmbiguous("the reply to a commit was lost")
        return outcome

    def watch(self, prefix: bytes, start_revision: Revision) -> "MemoryWatch":
        if start_revision < 1:
            raise StoreMisuse(f"watch from revision {start_revision}: at least 1")
        watch = MemoryWatch(self, prefix, start_revision)
        self._watches.add(watch)
        return watch

    async def grant_lease(self, ttl_s: int) -> Lease:
        return self._reach().grant(ttl_s, self._clock.now())

    async def keep_lease(self, lease: LeaseId) -> int:
        # Expires nothing, which would wake watches: the caller may be in another thread.
        if self._away:
            raise StoreUnavailable("the store is away")
        return self.kv.keep(lease, self._clock.now())

    async def revoke_lease(self, lease: LeaseId) -> None:
        self._reach().revoke(lease)

    async def compact(self, revision: Revision) -> None:
        self._reach().compact(revision)

    async def status(self) -> StoreStatus:
        kv = self._reach()
        size = kv.size_bytes()
        return StoreStatus("memory", kv.revision, True, size, size)

    async def close(self) -> None:
        for watch in tuple(self._watches):
            await watch.aclose()
        if self._wake in self.kv.listeners:
            self.kv.listeners.remove(self._wake)

    # For its watches

    def poll(self, prefix: bytes, revision: Revision) -> tuple[tuple[WatchBatch, ...], Revision]:
        """Batches from `revision` on, and where to go on; nothing while away."""
        if self._away:
            return (), revision
        kv = self._reach()
        return kv.events_since(prefix, revision), Revision(kv.revision + 1)

    def seconds_to_expiry(self) -> float:
        """How long a watch may sleep before a lease has to be expired."""
        due = self.kv.next_expiry()
        if due == NEVER:
            return _LONGEST_WAIT_S
        return min(max(seconds(due - self._clock.now()), 0.001), _LONGEST_WAIT_S)

    def forget(self, watch: "MemoryWatch") -> None:
        self._watches.discard(watch)

    # Inside

    def _reach(self) -> MemoryKv:
        if self._away:
            raise StoreUnavailable("the store is away")
        self.kv.expire(self._clock.now())
        return self.kv

    def _wake(self) -> None:
        for watch in self._watches:
            watch.wake()


class MemoryWatch:
    """A watch over a `MemoryStore`; see the Watch protocol."""

    def __init__(self, store: MemoryStore, prefix: bytes, start_revision: Revision) -> None:
        self._store = store
        self._prefix = prefix
        self._next = start_revision
        self._polled_to = start_revision
        self._batches: deque[WatchBatch] = deque()
        self._changed = asyncio.Event()
        self._closed = False

    def wake(self) -> None:
        self._changed.set()

    def cut(self) -> None:
        self._batches.clear()
        self._polled_to = self._next
        self.wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchBatch:
        while not self._batches:
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            batches, self._polled_to = self._store.poll(self._prefix, self._polled_to)
            self._batches.extend(batches)
            if not self._batches:
                await self._wait()
        batch = self._batches.popleft()
        self._next = Revision(batch.revision + 1)
        return batch

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._store.seconds_to_expiry()):
                await self._changed.wait()
        except TimeoutError:
            return

    async def aclose(self) -> None:
        self._closed = True
        self._batches.clear()
        self._store.forget(self)
        self.wake()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
