"""etcd killed, frozen, compacted, locked under the store: nothing lost or repeated, no hang."""

import asyncio
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from controller.store.base import (
    Committed,
    Compacted,
    Compare,
    Delete,
    Outcome,
    Put,
    Revision,
    StoreAmbiguous,
    StoreDenied,
    StoreUnavailable,
    Txn,
)
from controller.store.etcd import EtcdStore
from controller.store.etcd_endpoints import EtcdSettings
from tests.fixtures.etcd import EtcdProcess
from tests.integration.store.conftest import StartEtcd

KEY = b"/counter"
ROUNDS = 120
KILLS = 3


async def commit_counting(store: EtcdStore, number: int) -> None:
    """Raise the counter to `number`, exactly once, whatever happens on the way."""
    while True:
        try:
            item = await store.get(KEY)
            if item is not None and item.value == b"%d" % number:
                return
            guard = Compare(KEY, item.mod_revision if item else 0)
            outcome: Outcome = await store.commit(Txn((guard,), (Put(KEY, b"%d" % number),)))
        except (StoreAmbiguous, StoreUnavailable):
            await asyncio.sleep(0.05)
            continue
        if isinstance(outcome, Committed):
            return


async def wait_for_deletion(store: EtcdStore, key: bytes, since: Revision) -> None:
    """Wait from `since` again and again, as long as that may succeed."""
    while True:
        try:
            return await store.wait_deleted(key, since)
        except StoreUnavailable:
            await asyncio.sleep(0.05)


async def begun(etcd: EtcdProcess, wait: asyncio.Task[None]) -> None:
    """Return when etcd has registered the one wait there is."""
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(etcd.watcher_count):
            assert not wait.done()
            await asyncio.sleep(0.02)


async def test_kills_under_a_writer_lose_and_repeat_nothing(start_etcd: StartEtcd) -> None:
    etcd = start_etcd()

    async def kill_now_and_then() -> None:
        for _ in range(KILLS):
            await asyncio.sleep(0.15)
            await asyncio.to_thread(etcd.kill)
            await asyncio.to_thread(etcd.start)

    async with EtcdStore(EtcdSettings((etcd.endpoint,))) as store, asyncio.timeout(60):
        start = (await store.read(KEY)).revision
        async with asyncio.TaskGroup() as group:
            killer = group.create_task(kill_now_and_then())
            number = 0
            while number < ROUNDS or not killer.done():
                number = min(number + 1, ROUNDS)
                await commit_counting(store, number)
                await asyncio.sleep(0.005)
        item = await store.get(KEY)
        assert item is not None
        assert (item.value, item.version) == (b"%d" % ROUNDS, ROUNDS)
        assert (await store.read(KEY)).revision == start + ROUNDS


async def test_the_next_endpoint_serves_when_the_first_is_gone(start_etcd: StartEtcd) -> None:
    etcd = start_etcd()
    settings = EtcdSettings(("127.0.0.1:1", etcd.endpoint))
    async with EtcdStore(settings) as store:
        assert isinstance(await store.commit(Txn(puts=(Put(KEY, b""),))), Committed)
    async with EtcdStore(settings) as store, asyncio.timeout(60):
        with pytest.raises(StoreUnavailable):
            await store.wait_deleted(KEY, Revision(1))
        wait = asyncio.create_task(store.wait_deleted(KEY, Revision(1)))
        await begun(etcd, wait)
        await store.commit(Txn(deletes=(Delete(KEY),)))
        await wait


async def test_a_wait_that_etcds_death_broke_finds_the_deletion_later(
    start_etcd: StartEtcd,
) -> None:
    etcd = start_etcd()
    async with EtcdStore(EtcdSettings((etcd.endpoint,))) as store:
        await commit_counting(store, 1)
        since = Revision((await store.read(KEY)).revision + 1)
        wait = asyncio.create_task(store.wait_deleted(KEY, since))
        await begun(etcd, wait)
        await asyncio.to_thread(etcd.kill)
        async with asyncio.timeout(60):
            with pytest.raises(StoreUnavailable):
                await wait
            await asyncio.to_thread(etcd.start)
            async with asyncio.TaskGroup() as group:
                group.create_task(wait_for_deletion(store, KEY, since))
                await store.commit(Txn(deletes=(Delete(KEY),)))


async def test_a_wait_from_before_a_compaction_is_told_after_a_restart(
    start_etcd: StartEtcd,
) -> None:
    etcd = start_etcd()
    async with EtcdStore(EtcdSettings((etcd.endpoint,))) as store:
        start = Revision((await store.read(KEY)).revision + 1)
        for number in range(5):
            await commit_counting(store, number)
        last = (await store.read(KEY)).revision
        await store.compact(last)
        await asyncio.to_thread(etcd.kill)
        await asyncio.to_thread(etcd.start)
        async with asyncio.timeout(60):
            with pytest.raises(Compacted):
                await wait_for_deletion(store, KEY, start)


async def test_a_member_without_leader_ends_a_wait(start_etcd: StartEtcd) -> None:
    etcd = start_etcd()
    async with EtcdStore(EtcdSettings((etcd.endpoint,))) as store:
        since = Revision((await store.read(KEY)).revision + 1)
        wait = asyncio.create_task(store.wait_deleted(KEY, since))
        await begun(etcd, wait)
        # One of two is no majority, which may also keep etcdctl from an answer.
        ghost = "--peer-urls=http://127.0.0.1:1"
        with suppress(AssertionError, subprocess.TimeoutExpired):
            await asyncio.to_thread(etcd.ctl, "member", "add", "ghost", ghost)
        async with asyncio.timeout(60):
            with pytest.raises(StoreUnavailable):
                await wait
            with pytest.raises(StoreUnavailable):
                await store.wait_deleted(KEY, since)


async def test_a_frozen_etcd_ends_every_call_in_bounded_time(start_etcd: StartEtcd) -> None:
    etcd = start_etcd()
    async with EtcdStore(EtcdSettings((etcd.endpoint,), call_timeout_s=0.3)) as store:
        await commit_counting(store, 1)
        lease = await store.grant_lease(60)
        etcd.freeze()
        try:
            async with asyncio.timeout(60):
                with pytest.raises(StoreUnavailable):
                    await store.get(KEY)
                with pytest.raises(StoreAmbiguous):
                    await store.commit(Txn(puts=(Put(KEY, b"2"),)))
                with pytest.raises(StoreUnavailable):
                    await store.keep_lease(lease.id)
                with pytest.raises(StoreUnavailable):
                    await store.status()
        finally:
            etcd.thaw()
        await commit_counting(store, 3)


async def test_a_frozen_member_ends_waits_in_bounded_time(start_etcd: StartEtcd) -> None:
    etcd = start_etcd()
    settings = EtcdSettings((etcd.endpoint,), keepalive_s=1, ping_timeout_s=1)
    async with EtcdStore(settings) as store:
        await commit_counting(store, 1)
        wait = asyncio.create_task(store.wait_deleted(KEY, Revision(1)))
        await begun(etcd, wait)
        etcd.freeze()
        try:
            async with asyncio.timeout(60):
                with pytest.raises(StoreUnavailable):
                    await wait
                with pytest.raises(StoreUnavailable):
                    await store.wait_deleted(KEY, Revision(1))
        finally:
            etcd.thaw()


async def test_a_wait_that_a_frozen_member_does_not_confirm_ends(start_etcd: StartEtcd) -> None:
    etcd = start_etcd()
    settings = EtcdSettings((etcd.endpoint,), ping_timeout_s=60)  # no ping ends it before
    async with EtcdStore(settings) as store:
        await commit_counting(store, 1)
        etcd.freeze()
        try:
            async with asyncio.timeout(60):
                with pytest.raises(StoreUnavailable, match="no watch within"):
                    await store.wait_deleted(KEY, Revision(1))
        finally:
            etcd.thaw()
        # The member may have received the request all the same.
        async with asyncio.timeout(60):
            while await asyncio.to_thread(etcd.watcher_count):  # noqa: ASYNC110  # tells nobody
                await asyncio.sleep(0.02)


def jwt_flag(folder: Path, ttl: str) -> str:
    """The flag for tokens that expire soon; makes the keys that sign them."""
    private, public = folder / "jwt.pem", folder / "jwt.pub"
    for command in (
        ["openssl", "genrsa", "-out", str(private), "2048"],
        ["openssl", "rsa", "-in", str(private), "-pubout", "-out", str(public)],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    return f"--auth-token=jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl={ttl}"


def enable_users(etcd: EtcdProcess) -> None:
    """Users root and app; app may touch /app/ alone."""
    root = "--user=root:secret"
    etcd.ctl("user", "add", "root:secret")
    etcd.ctl("user", "add", "app:word")
    etcd.ctl("role", "add", "app")
    etcd.ctl("role", "grant-permission", "app", "readwrite", "/app/", "--prefix")
    etcd.ctl("user", "grant-role", "app", "app")
    etcd.ctl("user", "grant-role", "root", "root")
    etcd.ctl("auth", "enable")
    etcd.ctl(root, "user", "get", "app")


async def test_an_expired_token_is_renewed_unnoticed(start_etcd: StartEtcd, tmp_path: Path) -> None:
    # etcd cuts the end of a token's life to whole seconds: each lives for 3 to 4 s.
    etcd = start_etcd(jwt_flag(tmp_path, "4s"), "--bcrypt-cost=4")
    enable_users(etcd)
    settings = EtcdSettings((etcd.endpoint,), username="app", password="word")
    async with EtcdStore(settings) as store, EtcdStore(settings) as waiting:
        await store.commit(Txn(puts=(Put(b"/app/a", b"1"),)))
        assert await waiting.get(b"/app/a")
        await asyncio.sleep(4.1)
        gone = await store.commit(Txn(deletes=(Delete(b"/app/a"),)))
        async with asyncio.timeout(60):
            await waiting.wait_deleted(b"/app/a", gone.revision)


async def test_a_token_that_etcd_forgot_is_renewed_for_calls_and_waits(
    start_etcd: StartEtcd,
) -> None:
    etcd = start_etcd("--bcrypt-cost=4")
    enable_users(etcd)

    async def forget_tokens() -> None:
        await asyncio.to_thread(etcd.ctl, "--user=root:secret", "auth", "disable")
        await asyncio.to_thread(etcd.ctl, "auth", "enable")

    settings = EtcdSettings((etcd.endpoint,), username="app", password="word")
    async with EtcdStore(settings) as store, asyncio.timeout(60):
        await store.commit(Txn(puts=(Put(b"/app/a", b"1"),)))
        gone = await store.commit(Txn(deletes=(Delete(b"/app/a"),)))
        await forget_tokens()
        await store.wait_deleted(b"/app/a", gone.revision)
        await forget_tokens()
        assert await store.get(b"/app/a") is None
        await forget_tokens()
        await store.commit(Txn(puts=(Put(b"/app/a", b"2"),)))


async def test_what_the_user_may_not_touch_is_denied_at_once(start_etcd: StartEtcd) -> None:
    etcd = start_etcd("--bcrypt-cost=4")
    enable_users(etcd)
    settings = EtcdSettings((etcd.endpoint,), username="app", password="word")
    async with EtcdStore(settings) as store, asyncio.timeout(60):
        with pytest.raises(StoreDenied):
            await store.get(b"/elsewhere")
        with pytest.raises(StoreDenied):
            await store.wait_deleted(b"/elsewhere", Revision(1))
    for username, password in (("app", "wrong"), ("", "")):
        settings = EtcdSettings((etcd.endpoint,), username=username, password=password)
        async with EtcdStore(settings) as store, asyncio.timeout(60):
            with pytest.raises(StoreDenied):
                await store.get(b"/app/a")
            with pytest.raises(StoreDenied):
                await store.wait_deleted(b"/app/a", Revision(1))
