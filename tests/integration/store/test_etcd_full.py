"""An etcd without space: what waits, what makes room, and what its memory follows."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from controller.leader.election import Term
from controller.leader.persistence.saving import Saver
from controller.leader.persistence.unsaved import Unsaved
from controller.store.base import Put, StoreError, StoreFull, Txn
from controller.store.embedded import EmbeddedSettings
from controller.store.etcd import EtcdStore
from controller.store.etcd_endpoints import EtcdSettings
from controller.store.etcd_log import ENTRIES, LOG_BYTES
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.keys import Keys
from pyswarm_core.objects import Cluster
from pyswarm_core.state import State
from tests.fixtures.envelopes import counted_nonces
from tests.fixtures.etcd import EtcdProcess, embedded_etcd

KEYS = Keys()
WAIT_S = 120.0
QUOTA = 16 * 1024 * 1024


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    # A test's own folder is too deep for a Unix socket's path.
    with TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as name:
        yield Path(name)


async def fill(store: EtcdStore) -> None:
    """Write one key again and again until the quota is used up by its history."""
    try:
        for _ in range(200):
            await store.commit(Txn((), (Put(b"/elsewhere", b"x" * 500_000),)))
    except StoreFull:
        return
    raise AssertionError("the quota does not hold")


async def writable(store: EtcdStore) -> None:
    """Return when the store takes writes."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await store.commit(Txn((), (Put(b"/elsewhere", b""),)))
            except StoreFull:
                await asyncio.sleep(0.1)
            else:
                return


@pytest.fixture
async def external(short: Path) -> AsyncIterator[EtcdProcess]:
    etcd = EtcdProcess(short, (f"--quota-backend-bytes={QUOTA}",))
    etcd.start()
    yield etcd
    etcd.kill()


async def test_saving_waits_until_the_alarm_is_disarmed(external: EtcdProcess) -> None:
    errors: list[StoreError] = []
    state = State(Cluster(id="cluster"))
    unsaved = Unsaved()
    unsaved.cluster = True
    async with (
        EtcdStore(EtcdSettings((external.endpoint,))) as store,
        asyncio.timeout(WAIT_S),
        asyncio.TaskGroup() as group,
    ):
        lease = await store.grant_lease(600)
        won = await store.commit(Txn((), (Put(KEYS.leader, b"me", lease.id),)))
        term = Term(lease.id, 600 * SECOND, won.revision, won.revision, Instant(0))
        saver = Saver(store, KEYS, term, b"me", envelope=counted_nonces(), on_error=errors.append)
        await fill(store)
        saving = group.create_task(saver.save(state, unsaved))
        while not saver.full:  # noqa: ASYNC110  # it is read, not awaited
            await asyncio.sleep(0.05)
        assert "space" in saver.full
        assert await store.keep_lease(lease.id) > 0, "a leader may go on to lead"
        await store.make_room((await store.status()).revision)
        assert not await saving
        assert not saver.full
        assert {type(error) for error in errors} == {StoreFull}


async def test_our_own_etcd_is_relieved_without_a_restart(short: Path) -> None:
    etcd = embedded_etcd(EmbeddedSettings(short / "etcd", quota_bytes=QUOTA))
    await etcd.start()
    try:
        pid = etcd.pid
        async with EtcdStore(etcd.client) as store, asyncio.TaskGroup() as group:
            await fill(store)
            relief = group.create_task(etcd.relieve(store))
            await writable(store)
            assert not (await store.status()).alarms
            assert etcd.pid == pid
            relief.cancel()
    finally:
        await etcd.stop()


async def test_empty_transactions_follow_those_that_weigh_too_much(external: EtcdProcess) -> None:
    settings = EtcdSettings((external.endpoint,), pads_log=True)
    async with EtcdStore(settings) as store:
        before = external.proposals()
        await store.commit(Txn((), (Put(b"/x", b"x" * 1_000_000),)))
        assert external.proposals() - before < 5
        assert store._log is not None
        store._log.wrote(LOG_BYTES)
        before, revision = external.proposals(), (await store.status()).revision
        outcome = await store.commit(Txn((), (Put(b"/x", b"x" * 1_000_000),)))
        assert external.proposals() - before >= 1_000_000 // (LOG_BYTES // ENTRIES)
        assert outcome.revision == revision + 1 == (await store.status()).revision
