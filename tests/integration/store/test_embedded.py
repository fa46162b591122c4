"""The etcd that the controller starts for those who bring none."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from controller.store.base import KeyValue, Put, StoreMisuse, StoreUnavailable, Txn
from controller.store.embedded import EmbeddedEtcd, EmbeddedSettings
from controller.store.etcd import EtcdStore
from controller.store.etcd_endpoints import EtcdSettings

ROOT = Path(__file__).parents[3]

CONTROLLER = """
import asyncio, signal, sys
from pathlib import Path
from controller.store.embedded import EmbeddedEtcd, EmbeddedSettings

async def main():
    print(await EmbeddedEtcd(EmbeddedSettings(Path(sys.argv[1]))).start(), flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    # A test's own folder is too deep for a Unix socket's path.
    with TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as name:
        yield Path(name) / "etcd"


@pytest.fixture
async def etcd(folder: Path) -> AsyncIterator[EmbeddedEtcd]:
    etcd = EmbeddedEtcd(EmbeddedSettings(folder))
    yield etcd
    await etcd.stop()
    assert etcd.pid is None


def store_on(etcd: EmbeddedEtcd) -> EtcdStore:
    return EtcdStore(EtcdSettings((etcd.endpoint,)))


async def test_it_serves_leases_as_short_as_the_leader_s(etcd: EmbeddedEtcd) -> None:
    await etcd.start()
    async with store_on(etcd) as store:
        assert (await store.grant_lease(2)).ttl_s == 2


async def test_only_its_user_may_enter_the_folder(etcd: EmbeddedEtcd, folder: Path) -> None:
    await etcd.start()
    assert folder.stat().st_mode & 0o077 == 0


async def test_starting_twice_adopts_the_first(etcd: EmbeddedEtcd, folder: Path) -> None:
    await etcd.start()
    other = EmbeddedEtcd(EmbeddedSettings(folder))
    async with asyncio.TaskGroup() as group:
        group.create_task(other.start())
        group.create_task(etcd.start())
    assert other.pid == etcd.pid
    await other.stop()
    assert etcd.pid is None


async def test_it_outlives_a_killed_controller_and_is_adopted(
    etcd: EmbeddedEtcd, folder: Path
) -> None:
    controller = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CONTROLLER, str(folder), cwd=ROOT, stdout=subprocess.PIPE
    )
    assert controller.stdout is not None
    assert (await controller.stdout.readline()).decode().strip() == etcd.endpoint
    pid = etcd.pid
    assert pid is not None
    assert os.getsid(pid) != os.getsid(controller.pid)
    controller.kill()
    await controller.wait()
    await etcd.start()
    assert etcd.pid == pid


async def test_a_killed_etcd_is_started_again_with_its_data(etcd: EmbeddedEtcd) -> None:
    await etcd.start()
    first = etcd.pid
    assert first is not None
    async with store_on(etcd) as store, asyncio.timeout(30), asyncio.TaskGroup() as group:
        await store.commit(Txn(puts=(Put(b"a", b"kept"),)))
        guard = group.create_task(etcd.supervise())
        # Give the guard its first look at the process.
        await asyncio.sleep(0)
        os.kill(first, signal.SIGKILL)
        item = None
        while item is None or etcd.pid == first:
            await asyncio.sleep(0.05)
            item = await get_when_back(store)
        guard.cancel()
    assert item.value == b"kept"
    assert etcd.pid not in (None, first)


async def get_when_back(store: EtcdStore) -> KeyValue | None:
    try:
        return await store.get(b"a")
    except StoreUnavailable:
        return None


async def test_a_missing_etcd_is_named_with_its_package(folder: Path) -> None:
    etcd = EmbeddedEtcd(EmbeddedSettings(folder, binary="no-such-etcd"))
    with pytest.raises(StoreMisuse, match=r"apt install etcd-server.*--etcd-endpoints"):
        await etcd.start()


async def test_an_etcd_that_ends_at_once_is_reported_with_its_last_words(folder: Path) -> None:
    folder.mkdir()
    (folder / "data").write_text("not a directory")
    etcd = EmbeddedEtcd(EmbeddedSettings(folder))
    with pytest.raises(StoreUnavailable, match=r"ended at once; .*etcd\.log ends with"):
        await etcd.start()


def test_a_folder_too_deep_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreMisuse, match="too long for a Unix socket"):
        EmbeddedEtcd(EmbeddedSettings(tmp_path / ("d" * 100)))
