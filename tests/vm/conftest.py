"""What tests of volumes share."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.volumes.child import mounts_below
from tests.integration.runtime.test_volume_drivers import Host


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host of a server's clients, of which nothing stays mounted."""
    found = Host(tmp_path)
    yield found
    for agent in found.agents:
        agent.close()
    for point in mounts_below(str(tmp_path)):
        subprocess.run(["umount", "--force", "--lazy", point], check=True)
