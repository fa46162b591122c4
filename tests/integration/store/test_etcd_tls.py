"""etcd reached over mutual TLS, and refused without it."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from controller.store.base import Committed, Delete, Put, StoreMisuse, StoreUnavailable, Txn
from controller.store.etcd import EtcdStore
from controller.store.etcd_endpoints import EtcdSettings
from controller.store.etcd_tls import EtcdTls, TlsFiles
from tests.fixtures.etcd import EtcdProcess
from tests.fixtures.tls12 import old_tls

KINDS = {"ecdsa": ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), "rsa": ("rsa:2048",)}


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=120
    )


def make_certificates(folder: Path, kind: str = "ecdsa") -> None:
    """ca.pem, and node.pem with node.key for 127.0.0.1, fit for server and client."""
    key = ["-newkey", *KINDS[kind], "-nodes", "-subj"]
    openssl(folder, "req", "-x509", *key, "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
    openssl(folder, "req", *key, "/CN=node", "-keyout", "node.key", "-out", "node.csr")
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
    signer = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"]
    request = ["-req", "-in", "node.csr", "-extfile", "ext", "-out", "node.pem"]
    openssl(folder, "x509", *request, *signer)


def files(folder: Path) -> TlsFiles:
    return TlsFiles(folder / "ca.pem", folder / "node.pem", folder / "node.key")


@contextmanager
def running(folder: Path) -> Iterator[EtcdProcess]:
    tls = (
        "--client-cert-auth",
        f"--trusted-ca-file={folder / 'ca.pem'}",
        f"--cert-file={folder / 'node.pem'}",
        f"--key-file={folder / 'node.key'}",
    )
    etcd = EtcdProcess(folder, tls, scheme="https")
    etcd.start()
    try:
        yield etcd
    finally:
        etcd.kill()


@pytest.mark.parametrize("kind", KINDS)
async def test_mutual_tls_serves_calls_and_waits_and_refuses_strangers(
    kind: str, tmp_path: Path
) -> None:
    await asyncio.to_thread(make_certificates, tmp_path, kind)
    with running(tmp_path) as etcd:
        endpoint = f"https://{etcd.endpoint}"
        known = EtcdSettings((endpoint,), tls=files(tmp_path).current)
        async with EtcdStore(known) as store, asyncio.timeout(60):
            made = await store.commit(Txn(puts=(Put(b"a", b"1"),)))
            assert isinstance(made, Committed)
            await store.commit(Txn(deletes=(Delete(b"a"),)))
            await store.wait_deleted(b"a", made.revision)
            lease = await store.grant_lease(60)
            assert await store.keep_lease(lease.id) == 60
        guest = EtcdTls((tmp_path / "ca.pem").read_bytes())
        for stranger in (
            EtcdSettings((endpoint,), tls=lambda: guest),
            EtcdSettings((f"http://{etcd.endpoint}",)),
        ):
            async with EtcdStore(stranger) as store:
                with pytest.raises(StoreUnavailable):
                    await store.get(b"a")


async def test_renewed_files_are_used_for_new_channels(tmp_path: Path) -> None:
    """The CA is another one, so that the former certificate would be refused."""
    await asyncio.to_thread(make_certificates, tmp_path)
    now = 0.0
    found = TlsFiles(tmp_path / "ca.pem", tmp_path / "node.pem", tmp_path / "node.key", lambda: now)
    with running(tmp_path) as etcd:
        settings = EtcdSettings((f"https://{etcd.endpoint}",), tls=found.current)
        async with EtcdStore(settings) as store:
            lease = await store.grant_lease(60)
            etcd.kill()
            await asyncio.to_thread(make_certificates, tmp_path)
            await asyncio.to_thread(etcd.start)
            with pytest.raises(StoreUnavailable):
                await store.get(b"a")
            now = 10.0
            assert await store.get(b"a") is None
            assert await store.keep_lease(lease.id) == 60


async def test_an_etcd_without_tls_13_is_used_if_its_certificate_is_rsa(tmp_path: Path) -> None:
    await asyncio.to_thread(make_certificates, tmp_path, "rsa")
    etcd = EtcdProcess(tmp_path)
    await asyncio.to_thread(etcd.start)
    try:
        with old_tls(tmp_path, ("127.0.0.1", etcd.port)) as port:
            settings = EtcdSettings((f"https://127.0.0.1:{port}",), tls=files(tmp_path).current)
            async with EtcdStore(settings) as store:
                assert (await store.status()).has_leader
    finally:
        etcd.kill()


async def test_an_etcd_without_tls_13_and_with_ecdsa_is_refused_with_the_reason(
    tmp_path: Path,
) -> None:
    await asyncio.to_thread(make_certificates, tmp_path)
    etcd = EtcdProcess(tmp_path)
    await asyncio.to_thread(etcd.start)
    try:
        with old_tls(tmp_path, ("127.0.0.1", etcd.port)) as port:
            settings = EtcdSettings((f"https://127.0.0.1:{port}",), tls=files(tmp_path).current)
            async with EtcdStore(settings) as store:
                with pytest.raises(
                    StoreUnavailable, match=r"expected TLS 1\.3, or TLS 1\.2 with an RSA"
                ):
                    await store.status()
    finally:
        etcd.kill()


@pytest.mark.parametrize("address", ["", "host", "host:0", "ftp://host:1", "host:port"])
async def test_an_endpoint_that_is_none_is_named(address: str) -> None:
    with pytest.raises(StoreMisuse, match="expected HOST:PORT"):
        EtcdStore(EtcdSettings((address,)))
