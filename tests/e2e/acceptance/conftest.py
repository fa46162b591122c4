"""One fleet of three hosts for each module."""

from collections.abc import Iterator
from itertools import count

import pytest

from agent import preflight
from tests.e2e.acceptance.fleet import Fleet, playground

_numbers = count(1)


@pytest.fixture(scope="session", autouse=True)
def _prepared_host() -> None:
    """What an agent's start does to a host once (a cgroup mount, a sysctl) is no test's leak."""
    preflight.prepare()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three hosts, the image web:1 and the network app."""
    with playground(tmp_path_factory.mktemp("home")) as found:
        found("network", "create", "-d", "overlay", "app")
        yield found


@pytest.fixture
def service(fleet: Fleet) -> Iterator[str]:
    """A name for this test's service, which is removed afterwards."""
    name = f"s{next(_numbers)}"
    yield name
    fleet.run("service", "rm", name)
