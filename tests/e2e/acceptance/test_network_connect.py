"""`network connect` and `disconnect`: containers gain and lose interfaces while they run."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.acceptance.fleet import IMAGE, Fleet

APP = ("--network", "app")


@pytest.fixture
def other(fleet: Fleet, service: str) -> Iterator[str]:
    """Another network."""
    name = f"{service}-net"
    fleet("network", "create", name)
    yield name
    fleet("network", "rm", name)


@pytest.fixture
def web(fleet: Fleet, other: str, service: str) -> Iterator[str]:
    """A container on the network app."""
    with running(fleet, service, *APP) as name:
        yield name


@contextmanager
def running(fleet: Fleet, name: str, *flags: str) -> Iterator[str]:
    fleet("run", "-d", "--name", name, *flags, IMAGE)
    try:
        yield name
    finally:
        fleet.run("rm", "-f", name)


def inside(fleet: Fleet, name: str, script: str) -> str:
    """What a script prints in the container."""
    return fleet("exec", name, "sh", "-c", script)


def interfaces(fleet: Fleet, name: str) -> list[str]:
    """The names of the container's interfaces but the loopback."""
    return inside(fleet, name, "ls /sys/class/net | grep -v lo || true").split()


def networks(fleet: Fleet, name: str) -> dict[str, str]:
    """The container's networks, as `inspect` shows them, with its address on each."""
    found = json.loads(fleet("inspect", "-f", "{{json .NetworkSettings.Networks}}", name))
    return {network: each["IPAddress"] for network, each in found.items()}


def identity(fleet: Fleet, name: str) -> str:
    """It changes with a restart."""
    return fleet("inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", name)


def asks(fleet: Fleet, name: str, whom: str) -> bool:
    """Whether the web server of that name answers the container at once."""
    script = f"timeout 5 wget -q -O - http://{whom}/healthy"
    return fleet.run("exec", name, "sh", "-c", script).code == 0


def test_a_running_container_joins_and_leaves_a_network_without_a_restart(
    fleet: Fleet, web: str, other: str
) -> None:
    with running(fleet, f"{web}-db", "--network", other) as db:
        assert not asks(fleet, web, db)
        before = identity(fleet, web)
        assert fleet("network", "connect", "--alias", "front", other, web) == ""
        assert asks(fleet, web, db)
        assert asks(fleet, db, web)
        assert asks(fleet, db, "front")
        assert interfaces(fleet, web) == ["eth0", "eth1"]
        found = networks(fleet, web)
        assert sorted(found) == sorted(["app", other])
        assert all(found.values())
        assert identity(fleet, web) == before

        fleet("network", "disconnect", other, web)
        assert interfaces(fleet, web) == ["eth0"]
        assert list(networks(fleet, web)) == ["app"]
        assert not asks(fleet, web, db)
        assert not asks(fleet, db, "front")
        assert identity(fleet, web) == before
