"""Playgrounds for tests: one that all gentle tests share, and new ones for those that break hosts.

Whatever a test made is removed after it; `playground down` must leave nothing of a fleet.
"""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import fleet as fleets
from tests.e2e.cli import Cli
from tests.e2e.fleet import IMAGE, Fleet


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configuration and build cache of the command line."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def web_context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build context of the example image."""
    return fleets.example(tmp_path_factory.mktemp("web"))


def _playground(home: Path, context: Path, nodes: int, *flags: str) -> Iterator[Fleet]:
    name = f"t{secrets.token_hex(4)}"
    fleet = fleets.up(Cli(home / name), name, nodes, *flags)
    fleet.cli.environment["XDG_CACHE_HOME"] = str(home / "cache")
    try:
        fleet.build(IMAGE, context)
        yield fleet
    finally:
        fleet.cli.run("playground", "down", "--name", name)
    assert not fleet.left()


@pytest.fixture(scope="session")
def shared_fleet(home: Path, web_context: Path) -> Iterator[Fleet]:
    """Three hosts, for tests that break no host."""
    yield from _playground(home, web_context, 3)


@pytest.fixture(scope="module")
def module_fleet(home: Path, web_context: Path) -> Iterator[Fleet]:
    """Three hosts of the module's own, to be broken."""
    yield from _playground(home, web_context, 3)


@pytest.fixture
def fleet(shared_fleet: Fleet) -> Iterator[Fleet]:
    """The shared hosts, empty before and after."""
    yield shared_fleet
    shared_fleet.clear()


@pytest.fixture
def breakable(module_fleet: Fleet) -> Iterator[Fleet]:
    """The module's own hosts, empty before and after."""
    yield module_fleet
    module_fleet.clear()
