"""Two hosts with volumes, on the disk of this machine."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.volumes.disk import Host


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Host]:
    with closing(Host(tmp_path / "here")) as host:
        yield host


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Host]:
    with closing(Host(tmp_path / "there")) as host:
        yield host
