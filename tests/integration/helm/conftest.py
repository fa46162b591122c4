"""The chart's etcd, as a process of this machine."""

import base64
import http.client
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.ports import free_port
from tests.helm.rendering import RELEASE, Rendered

START_TIMEOUT_S = 60.0


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
