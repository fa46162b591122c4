"""The etcd that the controller starts for those who bring none."""

import asyncio
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest

from controller.identity.ca import parse
from controller.identity.etcd import EtcdCertificates
from controller.store.base import KeyValue, Put, StoreMisuse, StoreUnavailable, Txn
from controller.store.embedded import EmbeddedEtcd, EmbeddedSettings
from controller.store.etcd import EtcdStore
from controller.store.etcd_endpoints import EtcdSettings
from controller.store.etcd_tls import NO_TLS, EtcdTls
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.clock import SECOND
from pyswarm_core.identity.trust import ETCD_NAME
from tests.fixtures.etcd import embedded_etcd
from tests.fixtures.leaks import nothing_left
from tests.fixtures.ports import free_port

ROOT = Path(__file__).parents[3]

CONTROLLER = """
import asyncio, signal, sys
from pathlib import Path
from controller.store.embedded import EmbeddedSettings
from tests.fixtures.etcd import embedded_etcd
from tests.fixtures.leaks import nothing_left

async def main():
    print(await embedded_etcd(EmbeddedSettings(Path(sys.argv[1]))).start(), flush=True)
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
    etcd = embedded_etcd(EmbeddedSettings(folder))
    yield etcd
    await etcd.stop()
    assert etcd.pid is None


def store_on(etcd: EmbeddedEtcd) -> EtcdStore:
    return EtcdStore(etcd.client)


async def test_it_serves_leases_as_short_as_the_leader_s(etcd: EmbeddedEtcd) -> None:
    await etcd.start()
    async with store_on(etcd) as store:
        assert (await store.grant_lease(2)).ttl_s == 2


async def test_only_its_user_may_enter_the_folder(etcd: EmbeddedEtcd, folder: Path) -> None:
    await etcd.start()
    assert folder.stat().st_mode & 0o077 == 0


async def test_starting_twice_adopts_the_first(etcd: EmbeddedEtcd, folder: Path) -> None:
    await etcd.start()
    other = embedded_etcd(EmbeddedSettings(folder))
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
    async with store_on(etcd) as store, asyncio.timeout(60), asyncio.TaskGroup() as group:
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


def _same(tls: EtcdTls) -> EtcdTls:
    return tls


async def test_callers_without_its_certificate_are_refused(
    etcd: EmbeddedEtcd, folder: Path
) -> None:
    await etcd.start()
    own = etcd.client.tls()
    other = EtcdCertificates(folder / "other", SystemClock())
    other.prepare()
    foreign = msgspec.structs.replace(other.current(), ca_pem=own.ca_pem)
    nobody = msgspec.structs.replace(own, cert_pem=b"", key_pem=b"")
    for endpoint, tls in (
        (etcd.endpoint, foreign),
        (etcd.endpoint, nobody),
        (etcd.endpoint.replace("unixs:", "unix:"), NO_TLS),
    ):
        async with EtcdStore(EtcdSettings((endpoint,), tls=partial(_same, tls))) as store:
            with pytest.raises(StoreUnavailable):
                await store.status()


def test_the_peer_socket_has_tls_and_requires_a_certificate(folder: Path) -> None:
    etcd = embedded_etcd(EmbeddedSettings(folder))
    asyncio.run(etcd.start())
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=etcd.client.tls().ca_pem.decode())
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(folder / "peer.sock:0"))
            tls = context.wrap_socket(peer, server_hostname=ETCD_NAME)
            with tls, pytest.raises(ssl.SSLError):
                tls.recv(100)
        assert "client didn't provide a certificate" in (folder / "etcd.log").read_text()
    finally:
        asyncio.run(etcd.stop())


async def test_an_additional_port_has_tls_too(folder: Path) -> None:
    port = free_port()
    etcd = embedded_etcd(EmbeddedSettings(folder, client_port=port))
    await etcd.start()
    try:
        for scheme, is_refused in (("https", False), ("http", True)):
            settings = EtcdSettings((f"{scheme}://127.0.0.1:{port}",), tls=etcd.client.tls)
            async with EtcdStore(settings) as store:
                with pytest.raises(StoreUnavailable) if is_refused else nullcontext():
                    await store.status()
    finally:
        await etcd.stop()


class Unsecured:
    """The flags and the client of an etcd without TLS, as it ran before it had certificates."""

    def prepare(self) -> None:
        pass

    def arguments(self) -> list[str]:
        return []

    def current(self) -> EtcdTls:
        return NO_TLS


class EarlierEtcd(EmbeddedEtcd):
    """Listens on plain sockets."""

    @property
    def endpoint(self) -> str:
        return super().endpoint.replace("unixs:", "unix:")

    def _secured(self) -> list[str]:
        return [word.replace("unixs:", "unix:") for word in super()._secured()]


async def test_an_etcd_without_tls_is_replaced_and_its_data_stays(
    etcd: EmbeddedEtcd, folder: Path
) -> None:
    earlier = EarlierEtcd(EmbeddedSettings(folder), Unsecured())
    await earlier.start()
    former = earlier.pid
    async with EtcdStore(earlier.client) as store:
        await store.commit(Txn(puts=(Put(b"a", b"kept"),)))
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        # Two controllers at once: one etcd is left.
        second = embedded_etcd(EmbeddedSettings(folder))
        group.create_task(second.start())
        group.create_task(etcd.start())
    assert etcd.pid not in (None, former)
    assert second.pid == etcd.pid
    async with store_on(etcd) as store:
        item = await store.get(b"a")
    await second.stop()
    assert earlier.pid is None
    assert item is not None
    assert item.value == b"kept"


async def test_an_etcd_with_another_ca_is_replaced(etcd: EmbeddedEtcd, folder: Path) -> None:
    await etcd.start()
    former = etcd.pid
    shutil.rmtree(folder / "tls")
    await etcd.start()
    assert etcd.pid not in (None, former)
    async with store_on(etcd) as store:
        assert (await store.status()).has_leader


async def test_connections_outlive_their_certificates(folder: Path) -> None:
    """After the first certificates have expired, calls and new connections go on."""
    certificates = EtcdCertificates(folder / "tls", SystemClock(), 4 * SECOND)
    etcd = EmbeddedEtcd(EmbeddedSettings(folder), certificates)
    await etcd.start()
    first = certificates.current()
    ends_at = parse(first.cert_pem).expires_at
    try:
        async with store_on(etcd) as store, asyncio.timeout(60), asyncio.TaskGroup() as group:
            keeping = group.create_task(certificates.keep())
            lease = await store.grant_lease(60)
            pid = etcd.pid
            while SystemClock().now() < ends_at + SECOND:
                await store.commit(Txn(puts=(Put(b"a", b"1"),)))
                assert await store.keep_lease(lease.id) == 60
                await asyncio.sleep(0.1)
            async with store_on(etcd) as another:
                assert (await another.status()).has_leader
            assert etcd.pid == pid
            keeping.cancel()
        late = EtcdSettings((etcd.endpoint,), tls=lambda: first)
        async with EtcdStore(late) as store:
            with pytest.raises(StoreUnavailable):
                await store.status()
    finally:
        await etcd.stop()


async def test_a_missing_etcd_is_named_with_its_package(folder: Path) -> None:
    etcd = embedded_etcd(EmbeddedSettings(folder, binary="no-such-etcd"))
    with pytest.raises(StoreMisuse, match=r"apt install etcd-server.*--etcd-endpoints"):
        await etcd.start()


async def test_an_etcd_that_ends_at_once_is_reported_with_its_last_words(folder: Path) -> None:
    folder.mkdir()
    (folder / "data").write_text("not a directory")
    etcd = embedded_etcd(EmbeddedSettings(folder))
    with pytest.raises(StoreUnavailable, match=r"ended at once; .*etcd\.log ends with"):
        await etcd.start()


async def test_one_that_is_about_to_end_is_reaped_too(folder: Path) -> None:
    """As of a process that ends, its command line does not name the directory any more."""
    folder.mkdir()
    binary = folder / "ending"
    binary.write_text("#!/bin/sh\nexec sleep 0.5\n")
    binary.chmod(0o755)
    etcd = embedded_etcd(EmbeddedSettings(folder, binary=str(binary)))
    with nothing_left():
        with pytest.raises(StoreUnavailable, match="ended at once"):
            await etcd.start()
        del etcd


def test_a_folder_too_deep_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreMisuse, match="too long for a Unix socket"):
        embedded_etcd(EmbeddedSettings(tmp_path / ("d" * 100)))
