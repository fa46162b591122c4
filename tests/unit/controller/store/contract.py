"""What every Store promises, as tests: subclass StoreContract and provide a `rig` fixture."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Protocol

import pytest

from controller.store.base import (
    MAX_TXN_BYTES,
    MAX_TXN_OPS,
    Committed,
    Compacted,
    Compare,
    CompareFailed,
    Delete,
    LeaseExpired,
    LeaseId,
    Outcome,
    Put,
    Revision,
    Store,
    StoreAmbiguous,
    StoreMisuse,
    StoreUnavailable,
    Txn,
)

PATIENCE_S = 60.0
LOOK_S = 0.3
"""How long a test waits for what must not happen."""


class Rig(Protocol):
    """A store under test, and what a test may do to it."""

    store: Store
    writer: Store
    """Another client, which no fault reaches."""
    prefix: bytes

    async def cut_waits(self) -> None:
        """Break every wait's connection."""
        ...

    async def go_away(self) -> None:
        """Break every connection of `store` and refuse new ones."""
        ...

    def losing_replies(self) -> AbstractAsyncContextManager[None]:
        """Inside, what is committed through `store` happens, but its caller does not hear of it."""
        ...

    async def pass_time(self, seconds: int) -> None:
        """Let leases age, at least if time is not real."""
        ...

    async def registered_waits(self) -> int: ...


@asynccontextmanager
async def waiting(rig: Rig, key: bytes, since: Revision) -> AsyncIterator[asyncio.Task[None]]:
    """A wait on `rig.store` that the store has registered; cancelled at the end if it has to be."""
    before = await rig.registered_waits()
    wait = asyncio.create_task(rig.store.wait_deleted(key, since))
    try:
        await registered(rig, before + 1)
        yield wait
    finally:
        wait.cancel()
        await asyncio.wait((wait,))


async def registered(rig: Rig, count: int) -> None:
    """Return when this many waits are registered; fails if that does not happen."""
    async with asyncio.timeout(PATIENCE_S):
        while await rig.registered_waits() != count:  # noqa: ASYNC110  # etcd tells nobody
            await asyncio.sleep(0.02)


async def ended(wait: Awaitable[None]) -> None:
    """Await a wait that has to end soon."""
    async with asyncio.timeout(PATIENCE_S):
        await wait


async def now(rig: Rig) -> Revision:
    """The revision to wait from after looking at everything."""
    return Revision((await rig.store.read(rig.prefix)).revision + 1)


async def delete(store: Store, *keys: bytes) -> Revision:
    """Delete keys; the revision that did."""
    return committed(await store.commit(Txn(deletes=tuple(Delete(key) for key in keys))))


async def put(store: Store, key: bytes, value: bytes = b"") -> Revision:
    """Write one key; the revision that made it."""
    return committed(await store.commit(Txn(puts=(Put(key, value),))))


def committed(outcome: Outcome) -> Revision:
    assert isinstance(outcome, Committed)
    return outcome.revision


class ReadsAndTransactions:
    async def test_a_missing_key_is_none(self, rig: Rig) -> None:
        assert await rig.store.get(rig.prefix + b"nobody") is None

    async def test_a_put_is_read_back_with_its_revisions(self, rig: Rig) -> None:
        key = rig.prefix + b"a"
        made = await put(rig.store, key, b"1")
        changed = await put(rig.store, key, b"2")
        item = await rig.store.get(key)
        assert item is not None
        assert (item.value, item.create_revision, item.mod_revision) == (b"2", made, changed)
        assert (item.version, item.lease) == (2, 0)
        assert changed == made + 1

    async def test_a_read_is_ordered_by_key_and_bounded_by_its_prefix(self, rig: Rig) -> None:
        for name in (b"x/b", b"x/a", b"x0", b"x", b"x/\xff"):
            await put(rig.store, rig.prefix + name)
        snapshot = await rig.store.read(rig.prefix + b"x/")
        names = [item.key.removeprefix(rig.prefix) for item in snapshot.items]
        assert names == [b"x/a", b"x/b", b"x/\xff"]

    async def test_reads_at_one_revision_ignore_later_writes(self, rig: Rig) -> None:
        await put(rig.store, rig.prefix + b"a", b"old")
        await put(rig.store, rig.prefix + b"b", b"gone later")
        then = (await rig.store.read(rig.prefix)).revision
        await put(rig.store, rig.prefix + b"a", b"new")
        await put(rig.store, rig.prefix + b"c", b"new")
        await rig.store.commit(Txn(deletes=(Delete(rig.prefix + b"b"),)))
        snapshot = await rig.store.read(rig.prefix, then)
        assert snapshot.revision == then
        assert [item.value for item in snapshot.items] == [b"old", b"gone later"]

    async def test_a_read_of_the_future_is_misuse(self, rig: Rig) -> None:
        now = (await rig.store.status()).revision
        with pytest.raises(StoreMisuse):
            await rig.store.read(rig.prefix, Revision(now + 100))

    async def test_one_transaction_is_one_revision(self, rig: Rig) -> None:
        keys = [rig.prefix + b"%d" % number for number in range(5)]
        revision = committed(await rig.store.commit(Txn(puts=tuple(Put(k, b"") for k in keys))))
        items = (await rig.store.read(rig.prefix)).items
        assert {item.mod_revision for item in items} == {revision}
        assert len(items) == 5

    async def test_a_failed_compare_writes_nothing(self, rig: Rig) -> None:
        key = rig.prefix + b"a"
        revision = await put(rig.store, key, b"kept")
        outcome = await rig.store.commit(Txn((Compare(key, revision - 1),), (Put(key, b"lost"),)))
        assert outcome == CompareFailed(revision)
        item = await rig.store.get(key)
        assert item is not None
        assert item.value == b"kept"

    async def test_a_compare_tells_whether_a_key_was_written_since(self, rig: Rig) -> None:
        key, missing = rig.prefix + b"a", rig.prefix + b"missing"
        made = await put(rig.store, key, b"m")
        changed = await put(rig.store, key, b"m")
        cases = [
            (Compare.absent(missing), True),
            (Compare.absent(key), False),
            (Compare(key, changed), True),
            (Compare(key, made), False),
            (Compare(missing, made), False),
        ]
        for compare, holds in cases:
            outcome = await rig.store.commit(Txn((compare,)))
            assert isinstance(outcome, Committed) is holds, compare

    async def test_a_key_made_again_is_another(self, rig: Rig) -> None:
        key = rig.prefix + b"leader"
        made = await put(rig.store, key)
        await rig.store.commit(Txn(deletes=(Delete(key),)))
        await put(rig.store, key)
        outcome = await rig.store.commit(Txn((Compare(key, made),)))
        assert isinstance(outcome, CompareFailed)

    async def test_deleting_nothing_makes_no_revision(self, rig: Rig) -> None:
        now = await put(rig.store, rig.prefix + b"a")
        outcome = await rig.store.commit(Txn(deletes=(Delete(rig.prefix + b"nobody"),)))
        assert outcome == Committed(now)

    @pytest.mark.parametrize("prefix", [b"a\xff", b"a\xff\xff", b"a", b"\xff"])
    async def test_deleting_a_prefix_spares_the_neighbours(self, rig: Rig, prefix: bytes) -> None:
        names = [b"a", b"a\xfe", b"a\xff", b"a\xff\x00", b"a\xff\xff", b"a\xff\xff\x01", b"b"]
        for name in names:
            await put(rig.store, rig.prefix + name)
        await rig.store.commit(Txn(deletes=(Delete(rig.prefix + prefix, is_prefix=True),)))
        left = [i.key.removeprefix(rig.prefix) for i in (await rig.store.read(rig.prefix)).items]
        assert left == [name for name in names if not name.startswith(prefix)]

    async def test_a_range_of_many_megabytes_is_read_whole(self, rig: Rig) -> None:
        value = b"v" * 65_536
        for start in range(0, 192, 16):
            puts = (Put(rig.prefix + b"%04d" % n, value) for n in range(start, start + 16))
            committed(await rig.store.commit(Txn(puts=tuple(puts))))
        items = (await rig.store.read(rig.prefix)).items
        assert [item.key for item in items] == [rig.prefix + b"%04d" % n for n in range(192)]
        assert {item.value for item in items} == {value}

    async def test_as_many_operations_as_allowed_and_not_one_more(self, rig: Rig) -> None:
        puts = tuple(Put(rig.prefix + b"%d" % number, b"") for number in range(MAX_TXN_OPS))
        compares = tuple(Compare.absent(one.key) for one in puts)
        assert isinstance(await rig.store.commit(Txn(compares, puts)), Committed)
        with pytest.raises(StoreMisuse, match="129 operations"):
            await rig.store.commit(Txn(puts=(*puts, Put(rig.prefix + b"one", b""))))

    async def test_as_many_bytes_as_allowed_and_not_one_more(self, rig: Rig) -> None:
        key = rig.prefix + b"big"
        value = b"b" * (MAX_TXN_BYTES - len(key))
        await put(rig.store, key, value)
        with pytest.raises(StoreMisuse, match="bytes"):
            await put(rig.store, key, value + b"!")

    async def test_a_key_named_twice_is_refused(self, rig: Rig) -> None:
        key = rig.prefix + b"a"
        with pytest.raises(StoreMisuse, match="put twice"):
            await rig.store.commit(Txn(puts=(Put(key, b"1"), Put(key, b"2"))))
        with pytest.raises(StoreMisuse, match="put and deleted"):
            await rig.store.commit(Txn(puts=(Put(key, b"1"),), deletes=(Delete(key),)))

    async def test_a_lost_reply_is_ambiguous_and_the_guard_tells(self, rig: Rig) -> None:
        key = rig.prefix + b"a"
        txn = Txn((Compare.absent(key),), (Put(key, b"once"),))
        async with rig.losing_replies():
            with pytest.raises(StoreAmbiguous):
                await rig.store.commit(txn)
        item = await rig.store.get(key)
        assert isinstance(await rig.store.commit(txn), CompareFailed)
        assert item is not None
        assert (item.value, item.version) == (b"once", 1)

    async def test_status_tells_the_revision(self, rig: Rig) -> None:
        revision = await put(rig.store, rig.prefix + b"a")
        status = await rig.store.status()
        assert status.revision == revision
        assert status.has_leader


class Waits:
    async def test_a_wait_ends_when_its_key_is_deleted(self, rig: Rig) -> None:
        key = rig.prefix + b"a"
        await put(rig.store, key)
        async with waiting(rig, key, await now(rig)) as wait:
            assert not wait.done()
            await delete(rig.writer, key)
            await ended(wait)

    async def test_a_wait_ends_when_a_prefix_with_its_key_is_deleted(self, rig: Rig) -> None:
        key = rig.prefix + b"a"
        await put(rig.store, key)
        async with waiting(rig, key, await now(rig)) as wait:
            await rig.writer.commit(Txn(deletes=(Delete(rig.prefix, is_prefix=True),)))
            await ended(wait)

    async def test_a_wait_ends_when_the_lease_of_its_key_expires(self, rig: Rig) -> None:
        key = rig.prefix + b"a"
        lease = await rig.store.grant_lease(1)
        await put_leased(rig.store, key, lease.id)
        async with waiting(rig, key, await now(rig)) as wait:
            await rig.pass_time(lease.ttl_s)
            await ended(wait)
        assert await rig.store.get(key) is None

    async def test_a_wait_ends_when_the_lease_of_its_key_is_revoked(self, rig: Rig) -> None:
        key = rig.prefix + b"a"
        lease = await rig.store.grant_lease(60)
        await put_leased(rig.store, key, lease.id)
        async with waiting(rig, key, await now(rig)) as wait:
            await rig.writer.revoke_lease(lease.id)
            await ended(wait)

    async def test_a_wait_ends_at_once_if_its_key_was_deleted_since(self, rig: Rig) -> None:
        key = rig.prefix + b"a"
        await put(rig.store, key)
        since = await now(rig)
        gone = await delete(rig.store, key)
        await put(rig.store, key, b"another")
        await ended(rig.store.wait_deleted(key, since))
        await ended(rig.store.wait_deleted(key, gone))

    async def test_a_wait_ignores_puts_other_keys_and_what_was_before(self, rig: Rig) -> None:
        key, neighbours = rig.prefix + b"a", (rig.prefix, rig.prefix + b"a\0", rig.prefix + b"a/b")
        await put(rig.store, key)
        since = Revision(await delete(rig.store, key) + 1)
        for other in (*neighbours, key, key):
            await put(rig.store, other)
        await delete(rig.store, *neighbours)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await rig.store.wait_deleted(key, since)

    async def test_a_wait_from_the_future_ignores_what_is_before(self, rig: Rig) -> None:
        key = rig.prefix + b"a"
        made = await put(rig.store, key)
        async with waiting(rig, key, Revision(made + 3)) as wait:
            await delete(rig.store, key)
            await put(rig.store, key)
            await asyncio.sleep(0.02)
            assert not wait.done()
            await delete(rig.store, key)
            await ended(wait)

    async def test_a_wait_whose_connection_breaks_says_so(self, rig: Rig) -> None:
        key = rig.prefix + b"a"
        await put(rig.store, key)
        since = await now(rig)
        async with waiting(rig, key, since) as wait:
            await rig.cut_waits()
            with pytest.raises(StoreUnavailable):
                await ended(wait)
        await delete(rig.writer, key)
        await ended(rig.store.wait_deleted(key, since))

    async def test_a_wait_on_a_store_that_is_away_says_so(self, rig: Rig) -> None:
        key = rig.prefix + b"a"
        since = await now(rig)
        async with waiting(rig, key, since) as wait:
            await rig.go_away()
            with pytest.raises(StoreUnavailable):
                await ended(wait)
        with pytest.raises(StoreUnavailable):
            await ended(rig.store.wait_deleted(key, since))

    async def test_cancelled_waits_leave_nothing_registered(self, rig: Rig) -> None:
        before = await rig.registered_waits()
        key = rig.prefix + b"a"
        since = await now(rig)
        waits = [asyncio.create_task(rig.store.wait_deleted(key, since)) for _ in range(20)]
        await registered(rig, before + 20)
        for wait in waits:
            wait.cancel()
        results = await asyncio.gather(*waits, return_exceptions=True)
        assert {type(result) for result in results} == {asyncio.CancelledError}
        await registered(rig, before)

    async def test_ended_waits_leave_nothing_registered(self, rig: Rig) -> None:
        key = rig.prefix + b"a"
        await put(rig.store, key)
        before = await rig.registered_waits()
        since = await now(rig)
        waits = [asyncio.create_task(rig.store.wait_deleted(key, since)) for _ in range(20)]
        await registered(rig, before + 20)
        await delete(rig.writer, key)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*waits)
        await registered(rig, before)

    async def test_closing_the_store_ends_its_waits(self, rig: Rig) -> None:
        async with waiting(rig, rig.prefix + b"a", await now(rig)) as wait:
            await rig.store.close()
            with pytest.raises(StoreUnavailable):
                await ended(wait)


class Compaction:
    async def test_a_wait_from_before_the_compaction_is_told_so(self, rig: Rig) -> None:
        key = rig.prefix + b"a"
        first = await put(rig.store, key)
        await put(rig.store, key)
        last = await put(rig.store, key)
        await rig.store.compact(last)
        with pytest.raises(Compacted) as caught:
            await ended(rig.store.wait_deleted(key, first))
        assert caught.value.compact_revision == last

    async def test_a_deletion_at_the_compacted_revision_is_never_lost_silently(
        self, rig: Rig
    ) -> None:
        key = rig.prefix + b"a"
        await put(rig.store, key)
        gone = await delete(rig.store, key)
        await rig.store.compact(gone)
        with pytest.raises(Compacted):
            await ended(rig.store.wait_deleted(key, gone))

    async def test_a_deletion_after_the_compaction_is_found(self, rig: Rig) -> None:
        key = rig.prefix + b"a"
        compacted = await put(rig.store, key)
        await delete(rig.store, key)
        await rig.store.compact(compacted)
        await ended(rig.store.wait_deleted(key, Revision(compacted + 1)))

    async def test_a_wait_overtaken_by_compaction_ends_or_is_told_so(self, rig: Rig) -> None:
        key = rig.prefix + b"a"
        await put(rig.store, key)
        async with waiting(rig, key, await now(rig)) as wait:
            await delete(rig.writer, key)
            await rig.writer.compact(await put(rig.writer, key))
            with suppress(Compacted):
                await ended(wait)

    async def test_a_read_of_compacted_history_is_told_so(self, rig: Rig) -> None:
        old = await put(rig.store, rig.prefix + b"a")
        last = await put(rig.store, rig.prefix + b"a")
        await rig.store.compact(last)
        assert len((await rig.store.read(rig.prefix, last)).items) == 1
        with pytest.raises(Compacted):
            await rig.store.read(rig.prefix, old)

    async def test_compacting_twice_is_harmless_and_the_future_is_misuse(self, rig: Rig) -> None:
        last = await put(rig.store, rig.prefix + b"a")
        await rig.store.compact(last)
        await rig.store.compact(last)
        with pytest.raises(StoreMisuse):
            await rig.store.compact(Revision(last + 1000))


class Leases:
    async def test_an_expired_lease_takes_its_keys_along_at_one_revision(self, rig: Rig) -> None:
        lease = await rig.store.grant_lease(1)
        keys = [rig.prefix + b"a", rig.prefix + b"b"]
        made = committed(
            await rig.store.commit(Txn(puts=tuple(Put(key, b"", lease.id) for key in keys)))
        )
        async with waiting(rig, keys[0], Revision(made + 1)) as wait:
            await rig.pass_time(lease.ttl_s)
            await ended(wait)
        await ended(rig.store.wait_deleted(keys[1], Revision(made + 1)))
        snapshot = await rig.store.read(rig.prefix)
        assert (snapshot.revision, snapshot.items) == (made + 1, ())
        with pytest.raises(LeaseExpired):
            await rig.store.keep_lease(lease.id)

    async def test_a_kept_lease_lives_on(self, rig: Rig) -> None:
        lease = await rig.store.grant_lease(60)
        await put_leased(rig.store, rig.prefix + b"a", lease.id)
        await rig.pass_time(40)
        assert await rig.store.keep_lease(lease.id) == lease.ttl_s
        await rig.pass_time(40)
        item = await rig.store.get(rig.prefix + b"a")
        assert item is not None
        assert item.lease == lease.id

    async def test_revoking_deletes_now_and_twice_is_harmless(self, rig: Rig) -> None:
        lease = await rig.store.grant_lease(60)
        await put_leased(rig.store, rig.prefix + b"a", lease.id)
        await rig.store.revoke_lease(lease.id)
        await rig.store.revoke_lease(lease.id)
        assert await rig.store.get(rig.prefix + b"a") is None

    async def test_a_put_without_the_lease_sets_the_key_free(self, rig: Rig) -> None:
        lease = await rig.store.grant_lease(60)
        await put_leased(rig.store, rig.prefix + b"a", lease.id)
        await put(rig.store, rig.prefix + b"a", b"free")
        await rig.store.revoke_lease(lease.id)
        assert await rig.store.get(rig.prefix + b"a") is not None

    async def test_a_put_on_an_unknown_lease_writes_nothing(self, rig: Rig) -> None:
        unknown = LeaseId(987_654_321)
        with pytest.raises(LeaseExpired) as caught:
            await put_leased(rig.store, rig.prefix + b"a", unknown)
        assert caught.value.lease == unknown
        assert await rig.store.get(rig.prefix + b"a") is None


class StoreContract(ReadsAndTransactions, Waits, Compaction, Leases):
    """All of it."""


async def put_leased(store: Store, key: bytes, lease: LeaseId) -> None:
    committed(await store.commit(Txn(puts=(Put(key, b"", lease),))))
