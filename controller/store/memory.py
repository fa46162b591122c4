"""etcd's semantics over a dictionary: revisions, transactions, history, compaction, leases. PURE.

Synchronous and deterministic: time is an argument, lease ids are counted, keys are kept in order.
The simulator drives it directly and injects faults around it. Every revision after the first has
exactly one entry in the history; reading an earlier revision undoes entries from the newest.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator

import msgspec

from controller.store.base import (
    NO_LEASE,
    Committed,
    Compacted,
    Compare,
    CompareFailed,
    Delete,
    KeyValue,
    Lease,
    LeaseExpired,
    LeaseId,
    Outcome,
    Put,
    Revision,
    Snapshot,
    StoreMisuse,
    Txn,
    check_txn,
)
from pyswarm_core.clock import NEVER, SECOND, Instant, after

FIRST_REVISION = Revision(1)
"""An empty store is at revision 1, as in etcd."""


_Change = dict[bytes, KeyValue | None]
"""One revision of history: the keys it put or deleted, as they were before (None: absent)."""


class _LeaseState(msgspec.Struct):
    ttl_s: int
    expires_at: Instant
    keys: dict[bytes, None]


class MemoryKv:
    """The store itself. `listeners` are called after every new revision and every compaction."""

    def __init__(self) -> None:
        self.revision = FIRST_REVISION
        self.compact_revision = Revision(0)
        self.listeners: list[Callable[[], None]] = []
        self._items: dict[bytes, KeyValue] = {}
        self._order: list[bytes] = []
        self._history: list[_Change] = []
        self._leases: dict[LeaseId, _LeaseState] = {}
        self._lease_count = 0

    # Reading

    def get(self, key: bytes) -> KeyValue | None:
        """The key's newest state."""
        return self._items.get(key)

    def read(self, prefix: bytes, revision: Revision | None = None) -> Snapshot:
        """All keys under a prefix at a revision, the current one by default."""
        if revision is None or revision == self.revision:
            items = self._items
            return Snapshot(self.revision, tuple(items[key] for key in self._under(prefix)))
        if revision > self.revision:
            raise StoreMisuse(f"revision {revision} is in the future: now is {self.revision}")
        if revision < self.compact_revision:
            raise Compacted(self.compact_revision)
        return Snapshot(revision, self._as_of(prefix, revision))

    def deleted_since(self, key: bytes, revision: Revision) -> bool:
        """Whether the key was deleted at `revision` or later, even if it was created again.

        Raises Compacted unless `revision` is newer than the compacted one: etcd keeps the values of
        the compacted revision itself, but not its deletions.
        """
        if max(revision - 1, FIRST_REVISION) < self.compact_revision:
            raise Compacted(self.compact_revision)
        after_it = self._items.get(key)
        for change in reversed(self._history[max(revision - self._oldest(), 0) :]):
            if key in change:
                if after_it is None:
                    return True
                after_it = change[key]
        return False

    # Writing

    def commit(self, txn: Txn) -> Outcome:
        """Apply the transaction if every compare holds. Raises StoreMisuse and LeaseExpired."""
        check_txn(txn)
        if not all(self._holds(compare) for compare in txn.compares):
            return CompareFailed(self.revision)
        for put in txn.puts:
            if put.lease != NO_LEASE and put.lease not in self._leases:
                raise LeaseExpired(put.lease)
        number = Revision(self.revision + 1)
        change: _Change = {}
        for put in txn.puts:
            change[put.key] = self._items.get(put.key)
            self._put(put, number)
        for delete in txn.deletes:
            for key in self._named(delete):
                change[key] = self._delete(key)
        self._record(change)
        return Committed(self.revision)

    def compact(self, revision: Revision) -> None:
        """Compact history before `revision`. No effect if it is compacted already."""
        if revision > self.revision:
            raise StoreMisuse(f"revision {revision} is in the future: now is {self.revision}")
        if revision <= self.compact_revision:
            return
        del self._history[: max(0, revision + 1 - self._oldest())]
        self.compact_revision = revision
        self._tell()

    # Leases

    def grant(self, ttl_s: int, now: Instant) -> Lease:
        """A new lease that ends in `ttl_s` seconds."""
        if ttl_s < 1:
            raise StoreMisuse(f"ttl_s: value {ttl_s} is not valid: expected at least 1")
        self._lease_count += 1
        lease = LeaseId(self._lease_count)
        self._leases[lease] = _LeaseState(ttl_s, after(now, ttl_s * SECOND), {})
        return Lease(lease, ttl_s)

    def keep(self, lease: LeaseId, now: Instant) -> int:
        """Extend the lease by its full time to live, and return that in seconds."""
        state = self._leases.get(lease)
        if state is None or state.expires_at <= now:
            raise LeaseExpired(lease)
        state.expires_at = after(now, state.ttl_s * SECOND)
        return state.ttl_s

    def revoke(self, lease: LeaseId) -> None:
        """End the lease and delete its keys in one revision. No effect if it is gone."""
        state = self._leases.pop(lease, None)
        if state is None:
            return
        self._record({key: self._delete(key) for key in sorted(state.keys)})

    def expire(self, now: Instant) -> None:
        """Revoke every lease whose time is over, earliest first."""
        due = [(s.expires_at, lease) for lease, s in self._leases.items() if s.expires_at <= now]
        for _, lease in sorted(due):
            self.revoke(lease)

    def next_expiry(self) -> Instant:
        """When `expire` has to be called next; NEVER without leases."""
        return min((state.expires_at for state in self._leases.values()), default=NEVER)

    def size_bytes(self) -> int:
        """Keys and values that exist now."""
        return sum(len(item.key) + len(item.value) for item in self._items.values())

    # Private

    def _oldest(self) -> int:
        """The revision of the first entry in the history (or of the one to come)."""
        return self.revision + 1 - len(self._history)

    def _under(self, prefix: bytes) -> Iterator[bytes]:
        order = self._order
        for index in range(bisect_left(order, prefix), len(order)):
            if not order[index].startswith(prefix):
                return
            yield order[index]

    def _as_of(self, prefix: bytes, revision: Revision) -> tuple[KeyValue, ...]:
        items = {key: self._items[key] for key in self._under(prefix)}
        for change in reversed(self._history[revision + 1 - self._oldest() :]):
            for key, before in change.items():
                if not key.startswith(prefix):
                    continue
                if before is None:
                    del items[key]
                else:
                    items[key] = before
        return tuple(items[key] for key in sorted(items))

    def _holds(self, compare: Compare) -> bool:
        item = self._items.get(compare.key)
        return (item.mod_revision if item is not None else 0) == compare.mod_revision

    def _put(self, put: Put, number: Revision) -> None:
        old = self._items.get(put.key)
        if old is None:
            insort(self._order, put.key)
            item = KeyValue(put.key, put.value, number, number, 1, put.lease)
        else:
            self._detach(old)
            item = KeyValue(
                put.key, put.value, old.create_revision, number, old.version + 1, put.lease
            )
        self._items[put.key] = item
        if put.lease != NO_LEASE:
            self._leases[put.lease].keys[put.key] = None

    def _named(self, delete: Delete) -> list[bytes]:
        if delete.is_prefix:
            return list(self._under(delete.key))
        return [delete.key] if delete.key in self._items else []

    def _delete(self, key: bytes) -> KeyValue:
        item = self._items.pop(key)
        self._detach(item)
        del self._order[bisect_left(self._order, key)]
        return item

    def _detach(self, item: KeyValue) -> None:
        state = self._leases.get(item.lease)
        if state is not None:
            state.keys.pop(item.key, None)

    def _record(self, change: _Change) -> None:
        if change:
            self.revision = Revision(self.revision + 1)
            self._history.append(change)
            self._tell()

    def _tell(self) -> None:
        for listener in tuple(self.listeners):
            listener()
