"""Fleets of three hosts: one that gentle modules share, and one for each that harms."""

from collections.abc import Iterator
from itertools import count

import pytest

from agent import preflight
from tests.e2e.acceptance.fleet import IMAGE, Fleet, playground
from tests.fixtures import commands

_numbers = count(1)


@pytest.fixture(scope="session", autouse=True)
def _commands() -> Iterator[None]:
    with commands.ready():
        yield


@pytest.fixture(scope="session", autouse=True)
def _prepared_host() -> None:
    """What an agent's start does to a host once (a cgroup mount, a sysctl) is no test's leak."""
    preflight.prepare()


@pytest.fixture(scope="session")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    home = tmp_path_factory.mktemp("home")
    with playground(home, PYSWARM_AGENT_NODE_GENERIC_RESOURCES="gpu=a,b ssd=1") as found:
        found("network", "create", "-d", "overlay", "app")
        # What a host keeps of its first task (the image, a mount) is no module's leak.
        found("service", "create", "--name", "first", "--mode", "global", "--network", "app", IMAGE)
        found("service", "rm", "first")
        found.until(lambda: not found.containers(), "no container is left")
        yield found


@pytest.fixture(scope="module")
def fleet(_shared: Fleet) -> Iterator[Fleet]:
    """Three hosts with two GPUs by name each, the image web:1 and the network app, for modules that
    leave them as they were.

    A module that kills, cuts or configures has a fleet of its own under this name.
    """
    before = _shared.settings()
    yield _shared
    _shared.until(lambda: not _shared.containers(), "no container is left")
    assert _shared.settings() == before


@pytest.fixture(scope="module")
def own_fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """The same for one module alone, which may do with it what it likes; ENVIRONMENT is added."""
    own = getattr(request.module, "ENVIRONMENT", {})
    with playground(tmp_path_factory.mktemp("home"), **own) as found:
        found("network", "create", "-d", "overlay", "app")
        yield found


@pytest.fixture
def service(fleet: Fleet) -> Iterator[str]:
    """A name for this test's service, which is removed afterwards."""
    name = f"s{next(_numbers)}"
    yield name
    fleet.run("service", "rm", name)
