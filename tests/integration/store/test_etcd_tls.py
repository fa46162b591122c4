"""etcd reached over mutual TLS, and refused without it."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from controller.store.base import Committed, Delete, Put, StoreMisuse, StoreUnavailable, Txn
from controller.store.etcd import EtcdStore
from controller.store.etcd_endpoints import EtcdSettings
from tests.fixtures.etcd import EtcdProcess


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=20)


def make_certificates(folder: Path) -> None:
    """ca.pem, and node.pem with node.key for 127.0.0.1, fit for server and client."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    openssl(folder, "req", "-x509", *key, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
    openssl(
        folder,
        "req",
        *key[:4],
        "-nodes",
        "-subj",
        "/CN=node",
        "-keyout",
        "node.key",
        "-out",
        "node.csr",
    )
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl(
        folder,
        "x509",
        "-req",
        "-in",
        "node.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "ext",
        "-out",
        "node.pem",
    )


async def test_mutual_tls_serves_calls_and_waits_and_refuses_strangers(tmp_path: Path) -> None:
    await asyncio.to_thread(make_certificates, tmp_path)
    tls = (
        "--client-cert-auth",
        f"--trusted-ca-file={tmp_path / 'ca.pem'}",
        f"--cert-file={tmp_path / 'node.pem'}",
        f"--key-file={tmp_path / 'node.key'}",
    )
    etcd = EtcdProcess(tmp_path, tls, scheme="https")
    await asyncio.to_thread(etcd.start)
    try:
        ca = (tmp_path / "ca.pem").read_bytes()
        settings = EtcdSettings(
            (f"https://{etcd.endpoint}",),
            ca_pem=ca,
            cert_pem=(tmp_path / "node.pem").read_bytes(),
            key_pem=(tmp_path / "node.key").read_bytes(),
        )
        async with EtcdStore(settings) as store, asyncio.timeout(10):
            made = await store.commit(Txn(puts=(Put(b"a", b"1"),)))
            assert isinstance(made, Committed)
            await store.commit(Txn(deletes=(Delete(b"a"),)))
            await store.wait_deleted(b"a", made.revision)
        for stranger in (
            EtcdSettings((f"https://{etcd.endpoint}",), ca_pem=ca),
            EtcdSettings((f"http://{etcd.endpoint}",)),
        ):
            async with EtcdStore(stranger) as store:
                with pytest.raises(StoreUnavailable):
                    await store.get(b"a")
    finally:
        etcd.kill()


@pytest.mark.parametrize("address", ["", "host", "host:0", "ftp://host:1", "host:port"])
async def test_an_endpoint_that_is_none_is_named(address: str) -> None:
    with pytest.raises(StoreMisuse, match="expected HOST:PORT"):
        EtcdStore(EtcdSettings((address,)))
