"""A real etcd starts with the chart's own arguments and certificates, and our client reaches it."""

import asyncio
import base64
import http.client
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.store.base import Committed, Put, StoreUnavailable, Txn
from controller.store.etcd import EtcdStore
from controller.store.etcd_endpoints import EtcdSettings
from controller.store.etcd_tls import EtcdTls
from tests.fixtures.etcd import free_port
from tests.helm.rendering import RELEASE, Rendered

START_TIMEOUT_S = 20.0


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """The Secret as the pod mounts it."""
    return tmp_path / "tls"


@pytest.fixture
def endpoint(tmp_path: Path, certificates: Path, timeout_factor: float) -> Iterator[str]:
    """A member of one, as the chart starts it: only addresses and folders are this machine's."""
    found = Rendered({})
    certificates.mkdir()
    for name, data in found.one("Secret", "etcd-tls")["data"].items():
        (certificates / name).write_bytes(base64.b64decode(data))
    client, peer, health = free_port(), free_port(), free_port()
    pod = f"{RELEASE}-pyswarm-etcd-0"
    replaced = {
        "$(POD_NAME)": pod,
        f"{pod}.{RELEASE}-pyswarm-etcd.fleet.svc.cluster.local": "127.0.0.1",
        "0.0.0.0": "127.0.0.1",
        ":2379": f":{client}",
        ":2380": f":{peer}",
        ":2381": f":{health}",
        "/etc/etcd/tls": str(certificates),
        "/var/lib/etcd": str(tmp_path),
    }
    words = []
    for word in found.arguments("etcd"):
        for old, new in replaced.items():
            word = word.replace(old, new)
        words.append(word)
    with (tmp_path / "etcd.log").open("wb") as log:
        process = subprocess.Popen(["etcd", *words], stdout=log, stderr=log)
    try:
        _wait_until_healthy(process, health, tmp_path / "etcd.log", timeout_factor)
        yield f"127.0.0.1:{client}"
    finally:
        process.kill()
        process.wait()


def _wait_until_healthy(
    process: subprocess.Popen[bytes], port: int, log: Path, factor: float
) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S * factor
    while not _is_healthy(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(log.read_text()[-3000:])
        time.sleep(0.05)


def _is_healthy(port: int) -> bool:
    """As the chart's readiness probe asks: plain HTTP on the health port."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


async def test_the_charts_etcd_serves_those_who_hold_its_certificate(
    endpoint: str, certificates: Path
) -> None:
    ca = await asyncio.to_thread((certificates / "ca.crt").read_bytes)
    tls = EtcdTls(
        ca_pem=ca,
        cert_pem=(certificates / "tls.crt").read_bytes(),
        key_pem=(certificates / "tls.key").read_bytes(),
    )
    async with EtcdStore(EtcdSettings((endpoint,), tls=lambda: tls)) as store:
        assert isinstance(await store.commit(Txn(puts=(Put(b"a", b"1"),))), Committed)


async def test_the_charts_etcd_refuses_those_without(endpoint: str, certificates: Path) -> None:
    ca = (certificates / "ca.crt").read_bytes()
    tls = EtcdTls(ca_pem=ca)
    async with EtcdStore(EtcdSettings((endpoint,), tls=lambda: tls)) as store:
        with pytest.raises(StoreUnavailable):
            await store.commit(Txn(puts=(Put(b"a", b"1"),)))
