"""What every Store promises, as tests: subclass StoreContract and provide a `rig` fixture."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import pytest

from controller.store.base import (
    MAX_TXN_BYTES,
    MAX_TXN_OPS,
    Committed,
    Compacted,
    Compare,
    Conflict,
    Delete,
    Event,
    LeaseExpired,
    LeaseId,
    Outcome,
    Put,
    Revision,
    Store,
    StoreAmbiguous,
    StoreMisuse,
    Txn,
    Watch,
)

PATIENCE_S = 8.0


class Rig(Protocol):
    """A store under test, and what a test may do to it."""

    store: Store
    writer: Store
    """Another client, which no fault reaches."""
    prefix: bytes

    async def cut_watches(self) -> None:
        """Break every watch's connection."""
        ...

    async def lag(self) -> None:
        """Nothing reaches `store` and its watches from now on, until `catch_up`."""
        ...

    async def catch_up(self) -> None: ...

    def losing_replies(self) -> AbstractAsyncContextManager[None]:
        """Inside, what is committed through `store` happens, but its caller does not hear of it."""
        ...

    async def pass_time(self, seconds: int) -> None:
        """Let leases age, at least if time is not real."""
        ...

    async def registered_watches(self) -> int: ...


async def take(watch: Watch, count: int) -> list[Event]:
    """The next `count` events; fails if they do not come."""
    events: list[Event] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(events) < count:
            batch = await anext(watch)
            assert batch.events
            assert batch.revision == batch.events[-1].kv.mod_revision
            events += batch.events
    return events


async def put(store: Store, key: bytes, value: bytes = b"") -> Revision:
    """Write one key; the revision that made it."""
    return committed(await store.commit(Txn(puts=(Put(key, value),))))


def committed(outcome: Outcome) -> Revision:
    assert isinstance(outcome, Committed)
    return outcome.revision


def told(events: list[Event]) -> list[tuple[bytes, bytes, bool]]:
    return [(event.kv.key, event.kv.value, event.is_delete) for event in events]


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
        assert outcome == Conflict(revision)
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
        assert isinstance(outcome, Conflict)

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
        assert isinstance(await rig.store.commit(txn), Conflict)
        assert item is not None
        assert (item.value, item.version) == (b"once", 1)

    async def test_status_tells_the_revision(self, rig: Rig) -> None:
        revision = await put(rig.store, rig.prefix + b"a")
        status = await rig.store.status()
        assert status.revision == revision
        assert status.has_leader


class Watches:
    async def test_a_watch_tells_every_change_in_order(self, rig: Rig) -> None:
        start = (await rig.store.read(rig.prefix)).revision
        a, b = rig.prefix + b"a", rig.prefix + b"b"
        await put(rig.store, a, b"1")
        async with rig.store.watch(rig.prefix, Revision(start + 1)) as watch:
            await rig.store.commit(Txn(puts=(Put(a, b"2"), Put(b, b"3"))))
            await put(rig.store, b"elsewhere" + rig.prefix, b"not for us")
            await rig.store.commit(Txn(deletes=(Delete(a),)))
            events = await take(watch, 4)
        assert told(events) == [
            (a, b"1", False),
            (a, b"2", False),
            (b, b"3", False),
            (a, b"", True),
        ]
        revisions = [event.kv.mod_revision for event in events]
        assert revisions == sorted(revisions)
        assert revisions[0] == start + 1

    async def test_a_watch_starts_at_its_revision(self, rig: Rig) -> None:
        await put(rig.store, rig.prefix + b"a", b"before")
        second = await put(rig.store, rig.prefix + b"a", b"from here")
        async with rig.store.watch(rig.prefix, second) as watch:
            assert told(await take(watch, 1)) == [(rig.prefix + b"a", b"from here", False)]

    async def test_a_revision_is_never_split_between_batches(self, rig: Rig) -> None:
        start = (await rig.store.read(rig.prefix)).revision
        value = b"v" * 10_000
        for round_ in range(12):
            keys = (rig.prefix + b"%d-%d" % (round_, number) for number in range(MAX_TXN_OPS))
            await rig.store.commit(Txn(puts=tuple(Put(key, value) for key in keys)))
        seen: list[int] = []
        async with rig.store.watch(rig.prefix, Revision(start + 1)) as watch:
            while len(seen) < 12 * MAX_TXN_OPS:
                async with asyncio.timeout(PATIENCE_S):
                    batch = await anext(watch)
                inside = [event.kv.mod_revision for event in batch.events]
                for revision in set(inside):
                    assert inside.count(revision) == MAX_TXN_OPS
                seen += inside
        assert len(seen) == 12 * MAX_TXN_OPS
        assert seen == sorted(seen)

    async def test_a_cut_watch_goes_on_without_gap_or_repetition(self, rig: Rig) -> None:
        start = (await rig.store.read(rig.prefix)).revision
        async with rig.store.watch(rig.prefix, Revision(start + 1)) as watch:
            seen: list[Event] = []
            for round_ in range(4):
                await put(rig.writer, rig.prefix + b"a", b"%d" % round_)
                if round_ % 2:
                    seen += await take(watch, 2)
                await rig.cut_watches()
        assert [event.kv.value for event in seen] == [b"0", b"1", b"2", b"3"]

    async def test_cancelling_a_wait_loses_nothing(self, rig: Rig) -> None:
        start = (await rig.store.read(rig.prefix)).revision
        async with rig.store.watch(rig.prefix, Revision(start + 1)) as watch:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await anext(watch)
            await put(rig.store, rig.prefix + b"a", b"still here")
            assert [event.kv.value for event in await take(watch, 1)] == [b"still here"]

    async def test_cancelled_watches_leave_nothing_registered(self, rig: Rig) -> None:
        before = await rig.registered_watches()
        start = await put(rig.store, rig.prefix + b"a")
        ready = asyncio.Semaphore(0)

        async def follow_from_here() -> None:
            async with rig.store.watch(rig.prefix, start) as watch:
                async for batch in watch:
                    assert batch.events
                    ready.release()

        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            followers = [group.create_task(follow_from_here()) for _ in range(20)]
            for _ in followers:
                await ready.acquire()
            assert await rig.registered_watches() == before + 20
            for follower in followers:
                follower.cancel()
        async with asyncio.timeout(PATIENCE_S):
            while await rig.registered_watches() != before:  # noqa: ASYNC110  # etcd tells nobody
                await asyncio.sleep(0.02)

    async def test_closing_a_watch_ends_its_reader(self, rig: Rig) -> None:
        start = (await rig.store.read(rig.prefix)).revision
        watch = rig.store.watch(rig.prefix, Revision(start + 1))

        async def follow() -> list[Event]:
            return [event async for batch in watch for event in batch.events]

        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            reader = group.create_task(follow())
            await put(rig.store, rig.prefix + b"a")
            await asyncio.sleep(0.1)
            await watch.aclose()
        assert len(reader.result()) <= 1


class Compaction:
    async def test_a_watch_from_before_the_compaction_is_told_so(self, rig: Rig) -> None:
        first = await put(rig.store, rig.prefix + b"a")
        last = await put(rig.store, rig.prefix + b"a")
        last = await put(rig.store, rig.prefix + b"a")
        await rig.store.compact(last)
        async with rig.store.watch(rig.prefix, first) as watch:
            with pytest.raises(Compacted) as caught:
                await take(watch, 1)
        assert caught.value.compact_revision == last

    async def test_a_deletion_at_the_compacted_revision_is_never_lost_silently(
        self, rig: Rig
    ) -> None:
        await put(rig.store, rig.prefix + b"a")
        gone = committed(await rig.store.commit(Txn(deletes=(Delete(rig.prefix + b"a"),))))
        await rig.store.compact(gone)
        async with rig.store.watch(rig.prefix, gone) as watch:
            with pytest.raises(Compacted):
                await take(watch, 1)

    async def test_a_watch_from_after_the_compaction_works(self, rig: Rig) -> None:
        compacted = await put(rig.store, rig.prefix + b"a", b"1")
        await put(rig.store, rig.prefix + b"a", b"2")
        await rig.store.compact(compacted)
        async with rig.store.watch(rig.prefix, Revision(compacted + 1)) as watch:
            assert [event.kv.value for event in await take(watch, 1)] == [b"2"]

    async def test_a_watch_overtaken_by_compaction_is_told_so(self, rig: Rig) -> None:
        start = (await rig.store.read(rig.prefix)).revision
        async with rig.store.watch(rig.prefix, Revision(start + 1)) as watch:
            await put(rig.store, rig.prefix + b"a")
            await take(watch, 1)
            await rig.lag()
            last = Revision(0)
            for _ in range(3):
                last = await put(rig.writer, rig.prefix + b"a")
            await rig.writer.compact(last)
            await rig.catch_up()
            with pytest.raises(Compacted):
                await take(watch, 3)

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
    async def test_an_expired_lease_takes_its_keys_along_and_watches_hear_of_it(
        self, rig: Rig
    ) -> None:
        lease = await rig.store.grant_lease(1)
        keys = [rig.prefix + b"a", rig.prefix + b"b"]
        made = committed(
            await rig.store.commit(Txn(puts=tuple(Put(key, b"", lease.id) for key in keys)))
        )
        async with rig.store.watch(rig.prefix, Revision(made + 1)) as watch:
            await rig.pass_time(lease.ttl_s)
            events = await take(watch, 2)
        assert told(events) == [(key, b"", True) for key in keys]
        assert events[0].kv.mod_revision == events[1].kv.mod_revision
        assert await rig.store.get(keys[0]) is None
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


class StoreContract(ReadsAndTransactions, Watches, Compaction, Leases):
    """All of it."""


async def put_leased(store: Store, key: bytes, lease: LeaseId) -> None:
    committed(await store.commit(Txn(puts=(Put(key, b"", lease),))))
