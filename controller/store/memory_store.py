"""The asynchronous interface of `MemoryKv`: a Store for tests. SHELL (asyncio only).

Keeps the same contract as etcd's store, and can inject faults: being unavailable, losing the reply
of a commit, breaking its waits. Several stores over one `MemoryKv` are several clients.
"""

import asyncio

from controller.store.base import (
    KeyValue,
    Lease,
    LeaseId,
    Outcome,
    Revision,
    Snapshot,
    StoreAmbiguous,
    StoreStatus,
    StoreUnavailable,
    Txn,
)
from controller.store.memory import MemoryKv
from pyswarm_core.clock import NEVER, Clock, seconds

_LONGEST_WAIT_S = 3600.0


class MemoryStore:
    """A client of a `MemoryKv`. Leases expire whenever a client reads or waits."""

    def __init__(self, kv: MemoryKv, clock: Clock) -> None:
        self.kv = kv
        self._clock = clock
        self._away = False
        self._replies_lost = False
        self._waits: set[asyncio.Future[None]] = set()
        kv.listeners.append(self._wake)

    # Faults

    def set_away(self, away: bool) -> None:
        """While away every call raises StoreUnavailable; pending waits do so now."""
        self._away = away
        if away:
            self.cut_waits()

    def set_replies_lost(self, lost: bool) -> None:
        """While set, commits happen, but their callers get StoreAmbiguous."""
        self._replies_lost = lost

    def cut_waits(self) -> None:
        """Break the connection of every pending wait."""
        for wait in self._waits:
            if not wait.done():
                wait.set_exception(StoreUnavailable("the wait was cut"))

    @property
    def wait_count(self) -> int:
        """Waits that are registered now."""
        return len(self._waits)

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

    async def wait_deleted(self, key: bytes, since: Revision) -> None:
        while not self._reach().deleted_since(key, since):
            changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waits.add(changed)
            try:
                async with asyncio.timeout(self._seconds_to_expiry()):
                    await changed
            except TimeoutError:
                continue  # a lease has to be expired
            finally:
                self._waits.discard(changed)

    async def grant_lease(self, ttl_s: int) -> Lease:
        return self._reach().grant(ttl_s, self._clock.now())

    async def keep_lease(self, lease: LeaseId) -> int:
        # Expires nothing, which would wake waits: the caller may be in another thread.
        if self._away:
            raise StoreUnavailable("the store is unreachable")
        return self.kv.keep(lease, self._clock.now())

    async def revoke_lease(self, lease: LeaseId) -> None:
        self._reach().revoke(lease)

    async def compact(self, revision: Revision) -> None:
        self._reach().compact(revision)

    async def status(self) -> StoreStatus:
        kv = self._reach()
        return StoreStatus("memory", kv.revision, True, kv.size_bytes())

    async def close(self) -> None:
        self.cut_waits()
        if self._wake in self.kv.listeners:
            self.kv.listeners.remove(self._wake)

    # Private

    def _seconds_to_expiry(self) -> float:
        """How long a wait may sleep before a lease has to be expired."""
        due = self.kv.next_expiry()
        if due == NEVER:
            return _LONGEST_WAIT_S
        return min(max(seconds(due - self._clock.now()), 0.001), _LONGEST_WAIT_S)

    def _reach(self) -> MemoryKv:
        if self._away:
            raise StoreUnavailable("the store is unreachable")
        self.kv.expire(self._clock.now())
        return self.kv

    def _wake(self) -> None:
        for wait in self._waits:
            if not wait.done():
                wait.set_result(None)
