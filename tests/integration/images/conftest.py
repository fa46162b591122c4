"""A registry and a host's image storage for each test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from agent.images.base import Images
from agent.images.settings import ImageSettings
from agent.images.store import open_images
from tests.integration.images.registry import Registry, running_registry


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A real registry, empty."""
    with running_registry(tmp_path / "registry") as found:
        yield found


HASTY = pytest.mark.parametrize("stall_s", [2.0], ids=[""])
"""For tests of what a registry that hangs is given."""


@pytest.fixture
def stall_s() -> float:
    """After so long without progress a pull fails: on a busy machine, none fails by chance."""
    return 60.0


@pytest.fixture
def settings(tmp_path: Path, stall_s: float) -> ImageSettings:
    """A storage of the test's own."""
    return ImageSettings(
        root=tmp_path / "host" / "root",
        run_root=tmp_path / "host" / "run",
        work=tmp_path / "host" / "work",
        stall_s=stall_s,
    )


@pytest.fixture
async def images(settings: ImageSettings) -> AsyncIterator[Images]:
    """The host's images."""
    async with open_images(settings) as found:
        yield found
