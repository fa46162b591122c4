"""MemoryKv as the simulator uses it: no event loop, time an argument; its history is sound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.store.base import (
    Committed,
    Compacted,
    Delete,
    LeaseExpired,
    Put,
    Revision,
    StoreMisuse,
    Txn,
)
from controller.store.memory import MemoryKv
from pyswarm_core.clock import NEVER, SECOND, Instant

START = Instant(50 * SECOND)

KEYS = st.sampled_from([b"a", b"a/1", b"a/2", b"b", b"b\xff", b"c"])
PUTS = st.lists(KEYS, max_size=3, unique=True)


def put(kv: MemoryKv, *keys: bytes, value: bytes = b"") -> Revision:
    outcome = kv.commit(Txn(puts=tuple(Put(key, value) for key in keys)))
    assert isinstance(outcome, Committed)
    return outcome.revision


def test_an_empty_store_is_at_revision_one() -> None:
    assert MemoryKv().revision == 1
    assert put(MemoryKv(), b"a") == 2


def test_a_lease_expires_at_its_time_and_not_before() -> None:
    kv = MemoryKv()
    lease = kv.grant(2, START)
    kv.commit(Txn(puts=(Put(b"leader", b"me", lease.id),)))
    due = kv.next_expiry()
    assert due == START + 2 * SECOND
    kv.expire(Instant(due - 1))
    assert kv.get(b"leader") is not None
    kv.expire(due)
    assert kv.get(b"leader") is None
    assert kv.next_expiry() == NEVER


def test_a_lease_past_its_time_cannot_be_kept_even_if_nobody_expired_it_yet() -> None:
    kv = MemoryKv()
    lease = kv.grant(2, START)
    with pytest.raises(LeaseExpired):
        kv.keep(lease.id, Instant(START + 2 * SECOND))


def test_leases_due_together_expire_in_order_of_their_time() -> None:
    kv = MemoryKv()
    late, early = kv.grant(5, START), kv.grant(1, START)
    kv.commit(Txn(puts=(Put(b"late", b"", late.id), Put(b"early", b"", early.id))))
    kv.expire(Instant(START + 9 * SECOND))
    assert [item.key for item in kv.read(b"", Revision(3)).items] == [b"late"]
    assert kv.read(b"", Revision(4)).items == ()


def test_compaction_forgets_history_but_no_key() -> None:
    kv = MemoryKv()
    put(kv, b"a")
    last = put(kv, b"b")
    kv.compact(last)
    assert [item.key for item in kv.read(b"").items] == [b"a", b"b"]
    with pytest.raises(Compacted):
        kv.deleted_since(b"a", last)
    assert not kv.deleted_since(b"a", Revision(last + 1))


def test_listeners_hear_of_every_revision() -> None:
    kv = MemoryKv()
    heard: list[int] = []
    kv.listeners.append(lambda: heard.append(kv.revision))
    put(kv, b"a")
    kv.commit(Txn(deletes=(Delete(b"missing"),)))
    put(kv, b"a")
    assert heard == [2, 3]


def test_an_empty_key_is_misuse() -> None:
    with pytest.raises(StoreMisuse, match="empty"):
        MemoryKv().commit(Txn(puts=(Put(b"", b""),)))


@given(st.lists(st.tuples(PUTS, KEYS, st.booleans()), max_size=12))
def test_prop_every_past_revision_reads_as_it_was(
    steps: list[tuple[list[bytes], bytes, bool]],
) -> None:
    kv = MemoryKv()
    past = {kv.revision: kv.read(b"").items}
    for puts, victim, is_prefix in steps:
        put(kv, *puts, value=b"%d" % kv.revision)
        past[kv.revision] = kv.read(b"").items
        kv.commit(Txn(deletes=(Delete(victim, is_prefix),)))
        past[kv.revision] = kv.read(b"").items
    for revision, items in past.items():
        assert kv.read(b"", revision).items == items
        for prefix in (b"a", b"b\xff"):
            expected = tuple(item for item in items if item.key.startswith(prefix))
            assert kv.read(prefix, revision).items == expected


@given(st.lists(st.tuples(PUTS, KEYS, st.booleans()), max_size=12), st.integers(0, 12))
def test_prop_every_deletion_is_known_by_its_revision(
    steps: list[tuple[list[bytes], bytes, bool]], compacted: int
) -> None:
    kv = MemoryKv()
    deleted: set[tuple[bytes, int]] = set()
    for puts, victim, is_prefix in steps:
        put(kv, *puts)
        there = {item.key for item in kv.read(b"").items}
        kv.commit(Txn(deletes=(Delete(victim, is_prefix),)))
        left = {item.key for item in kv.read(b"").items}
        deleted |= {(key, kv.revision) for key in there - left}
    kv.compact(Revision(min(compacted, kv.revision)))
    for since in range(kv.compact_revision + 1, kv.revision + 2):
        for key in (b"a", b"a/1", b"a/2", b"b", b"b\xff", b"c"):
            known = any(one == key and revision >= since for one, revision in deleted)
            assert kv.deleted_since(key, Revision(since)) is known
