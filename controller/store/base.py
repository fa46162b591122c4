"""The store's contract: its values, its errors, and the protocol of its implementations. PURE.

    StoreError
    ├── StoreUnavailable   no member answered and nothing was written: retry
    ├── StoreAmbiguous     a write with an unknown outcome: read again (writes are guarded)
    ├── Compacted          the requested history is gone: read everything again
    ├── LeaseExpired       the lease does not exist (any more)
    ├── StoreFull          etcd's space quota is used up: compact, defragment, disarm the alarm
    └── StoreMisuse        the request or the credentials are wrong, and a retry fails as well
        ├── StoreTooLarge  the request has more bytes than the store accepts
        └── StoreDenied    the credentials do not allow it

A lost race is no error: `commit` answers `CompareFailed`. Revisions grow by one with every
transaction that changes something.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import NewType, Protocol, Self

import msgspec

from pyswarm_core.errors import PyswarmError, Unavailable

Revision = NewType("Revision", int)
LeaseId = NewType("LeaseId", int)

NO_LEASE = LeaseId(0)

MAX_TXN_OPS = 128
"""etcd's default for compares and, counted apart, for puts and deletes together."""

MAX_TXN_BYTES = 1_400_000
"""Keys and values of one transaction; etcd's default of 1.5 MiB minus the encoding's overhead."""


class StoreError(PyswarmError):
    """Base of the tree; its text is one line."""


class StoreUnavailable(StoreError, Unavailable):
    """Nothing was written; the same request may succeed later."""


class StoreAmbiguous(StoreError, Unavailable):
    """The write may or may not have happened, or may yet happen. Read again before deciding."""


class Compacted(StoreError):
    """The requested history is gone (revision 0: of unknown extent): read everything again."""

    def __init__(self, compact_revision: Revision) -> None:
        super().__init__(f"history up to revision {compact_revision} is compacted")
        self.compact_revision = compact_revision


class LeaseExpired(StoreError):
    """The lease is unknown: it expired or was revoked, and its keys are gone."""

    def __init__(self, lease: LeaseId) -> None:
        super().__init__(f"lease {lease:x} has expired or was revoked")
        self.lease = lease


class StoreFull(StoreError):
    """The store's space quota is used up and it accepts no more writes."""


class StoreMisuse(StoreError):
    """A retry fails as well: a limit exceeded, a key named twice, a bad configuration."""


class StoreTooLarge(StoreMisuse):
    """More bytes than one request may have; a part of it may fit."""


class StoreDenied(StoreMisuse):
    """The credentials are wrong or do not allow the request."""


class KeyValue(msgspec.Struct, frozen=True, gc=False):
    """A key at some revision."""

    key: bytes
    value: bytes
    create_revision: Revision
    """Changes only when the key is deleted and created again: a leader's fence compares it."""
    mod_revision: Revision
    """Changes with every put: an update's guard compares it."""
    version: int
    """Puts since creation, from 1."""
    lease: LeaseId = NO_LEASE


class Compare(msgspec.Struct, frozen=True, gc=False):
    """A condition of a transaction: the key was neither put nor deleted since."""

    key: bytes
    mod_revision: int
    """0: it does not exist."""

    @classmethod
    def absent(cls, key: bytes) -> Self:
        """The key does not exist."""
        return cls(key, 0)


class Put(msgspec.Struct, frozen=True, gc=False):
    """Write a value; with a lease, the key is deleted when the lease ends."""

    key: bytes
    value: bytes
    lease: LeaseId = NO_LEASE


class Delete(msgspec.Struct, frozen=True, gc=False):
    """Remove a key, or every key that starts with it."""

    key: bytes
    is_prefix: bool = False


class Txn(msgspec.Struct, frozen=True, gc=False):
    """If every compare holds: all puts, then all deletes, as one revision; otherwise nothing.

    No key may be put twice, nor put and deleted. At most MAX_TXN_OPS and MAX_TXN_BYTES.
    """

    compares: tuple[Compare, ...] = ()
    puts: tuple[Put, ...] = ()
    deletes: tuple[Delete, ...] = ()


class Committed(msgspec.Struct, frozen=True, gc=False):
    """It was applied; `revision` is its own (the store's current one if it changed nothing)."""

    revision: Revision


class CompareFailed(msgspec.Struct, frozen=True, gc=False):
    """A compare did not hold at `revision`; nothing was written."""

    revision: Revision


Outcome = Committed | CompareFailed


class Snapshot(msgspec.Struct, frozen=True):
    """Everything under a prefix at one revision, ordered by key."""

    revision: Revision
    items: tuple[KeyValue, ...]


class Lease(msgspec.Struct, frozen=True, gc=False):
    """A granted lease; the store may have raised the requested time to live."""

    id: LeaseId
    ttl_s: int


class StoreStatus(msgspec.Struct, frozen=True):
    """The state of the store."""

    version: str
    revision: Revision
    has_leader: bool
    size_bytes: int
    """The file, with the pages that were freed."""
    alarms: tuple[str, ...] = ()


class Store(Protocol):
    """A consistent, transactional map of bytes: etcd, or memory that behaves like it."""

    async def get(self, key: bytes) -> KeyValue | None:
        """The newest committed state of a key, None if it does not exist."""
        ...

    async def read(self, prefix: bytes, revision: Revision | None = None) -> Snapshot:
        """All keys under a prefix, at the given or the current revision. Pass the revision of the
        first read to later ones for a consistent snapshot. Raises Compacted only for a given
        revision.
        """
        ...

    async def commit(self, txn: Txn) -> Outcome:
        """Apply a transaction. It is never sent again once it may have arrived: then
        StoreAmbiguous.
        """
        ...

    async def wait_deleted(self, key: bytes, since: Revision) -> None:
        """Return when the key was deleted at revision `since` or later, which may never happen.

        Raises StoreUnavailable when it cannot be known any more: the connection broke, the member
        has no leader, the store was closed. Raises Compacted unless `since` is newer than the
        compacted revision; a later compaction raises it or is ignored, and hides no deletion. Read
        the key again after either. A cancelled wait leaves nothing registered.
        """
        ...

    async def grant_lease(self, ttl_s: int) -> Lease:
        """A new lease. An ambiguous outcome costs at most an unused lease."""
        ...

    async def keep_lease(self, lease: LeaseId) -> int:
        """Renew a lease; returns its full time to live in seconds. Raises LeaseExpired.

        Callable from the event loop of any thread, one call at a time: a leader renews in a thread
        of its own.
        """
        ...

    async def revoke_lease(self, lease: LeaseId) -> None:
        """End a lease and delete its keys; no error if it is gone already."""
        ...

    async def compact(self, revision: Revision) -> None:
        """Compact history before `revision`; no error if it is compacted already."""
        ...

    async def status(self) -> StoreStatus:
        """The state of the member that answers; raises StoreUnavailable if none does."""
        ...

    async def close(self) -> None:
        """Close connections; waits raise StoreUnavailable. The store is unusable afterwards."""
        ...


def prefix_end(prefix: bytes) -> bytes:
    """The smallest key above all keys with this prefix; b"" if none is (0xff only, or empty)."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,)) if kept else b""


def check_txn(txn: Txn) -> None:
    """Raise StoreMisuse for what etcd would refuse by default, before anything is sent."""
    _check_size(txn)
    keys = [put.key for put in txn.puts]
    if not all(keys) or not all(compare.key for compare in txn.compares):
        raise StoreMisuse("a key is empty")
    if len(set(keys)) != len(keys):
        raise StoreMisuse(f"key {_first_repeated(keys)!r} is put twice in one transaction")
    for delete in txn.deletes:
        _check_delete(delete, keys)


def txn_size(txn: Txn) -> int:
    """Bytes of its keys and values."""
    size = sum(len(put.key) + len(put.value) for put in txn.puts)
    size += sum(len(delete.key) for delete in txn.deletes)
    return size + sum(len(compare.key) for compare in txn.compares)


def _check_size(txn: Txn) -> None:
    ops = max(len(txn.compares), len(txn.puts) + len(txn.deletes))
    if ops > MAX_TXN_OPS:
        raise StoreMisuse(f"{ops} operations in one transaction: at most {MAX_TXN_OPS}")
    size = txn_size(txn)
    if size > MAX_TXN_BYTES:
        raise StoreTooLarge(f"{size} bytes in one transaction: at most {MAX_TXN_BYTES}")


def _check_delete(delete: Delete, put_keys: Iterable[bytes]) -> None:
    if not delete.key and not delete.is_prefix:
        raise StoreMisuse("a key is empty")
    for key in put_keys:
        if key == delete.key or (delete.is_prefix and key.startswith(delete.key)):
            raise StoreMisuse(f"key {key!r} is put and deleted in one transaction")


def _first_repeated(keys: list[bytes]) -> bytes:
    ordered = sorted(keys)
    return next(one for one, other in pairwise(ordered) if one == other)
