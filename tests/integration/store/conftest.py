"""One etcd for all tests of a session; those that kill it start their own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.etcd import EtcdProcess

StartEtcd = Callable[..., EtcdProcess]


@pytest.fixture(scope="session")
def shared_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdProcess]:
    """An etcd that nobody kills."""
    process = EtcdProcess(tmp_path_factory.mktemp("etcd"))
    process.start()
    yield process
    process.kill()


@pytest.fixture
def start_etcd(tmp_path: Path) -> Iterator[StartEtcd]:
    """Starts an etcd of the test's own, with more flags if given."""
    started: list[EtcdProcess] = []

    def start(*flags: str) -> EtcdProcess:
        folder = tmp_path / f"etcd-{len(started)}"
        folder.mkdir()
        process = EtcdProcess(folder, flags)
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.kill()
