"""`network connect` and `disconnect`: containers gain and lose interfaces while they run."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.acceptance.fleet import COMMAND_LIMIT_S, IMAGE, PATIENT, PYSWARM, Fleet
from tests.e2e.acceptance.web import reached

pytestmark = pytest.mark.slow

APP = ("--network", "app")
ENVIRONMENT = PATIENT


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """Its agents are killed."""
    return own_fleet


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
    fleet.until(lambda: asks(fleet, name, "localhost"), "it listens")
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


def asks(fleet: Fleet, name: str, whom: str, timeout_s: int = 30) -> bool:
    """Whether the web server of that name answers the container."""
    script = f"timeout {timeout_s} wget -q -O - http://{whom}/healthy"
    return fleet.run("exec", name, "sh", "-c", script).code == 0


def test_a_running_container_joins_and_leaves_a_network_without_a_restart(
    fleet: Fleet, web: str, other: str
) -> None:
    with running(fleet, f"{web}-db", "--network", other) as db:
        assert not asks(fleet, web, db, 3)
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
        assert not asks(fleet, web, db, 3)
        assert not asks(fleet, db, "front", 3)
        assert identity(fleet, web) == before


def test_networks_of_a_stopped_container_are_those_of_its_next_start(
    fleet: Fleet, web: str, other: str
) -> None:
    fleet("stop", "-t", "0", web)
    fleet("network", "connect", other, web)
    fleet("network", "disconnect", "app", web)
    assert list(networks(fleet, web)) == [other]
    fleet("start", web)
    assert list(networks(fleet, web)) == [other]
    assert interfaces(fleet, web) == ["eth0"]
    fleet("network", "connect", "app", web)
    fleet("restart", "-t", "0", web)
    assert interfaces(fleet, web) == ["eth0", "eth1"]
    assert all(networks(fleet, web).values())


def test_a_container_of_no_network_joins_one_and_leaves_bridge(
    fleet: Fleet, other: str, service: str
) -> None:
    with running(fleet, service) as web, running(fleet, f"{web}-db", "--network", other) as db:
        before = identity(fleet, web)
        assert list(networks(fleet, web)) == ["bridge"]
        fleet("network", "connect", other, web)
        assert asks(fleet, web, db)
        assert asks(fleet, db, web)
        fleet("network", "disconnect", "bridge", web)
        assert interfaces(fleet, web) == ["eth1"]
        assert "default via" in inside(fleet, web, "ip route show dev eth1")
        assert asks(fleet, web, db)

        fleet("network", "disconnect", other, web)
        assert interfaces(fleet, web) == []
        assert networks(fleet, web) == {"none": ""}
        assert not asks(fleet, db, web, 3)
        fleet("network", "connect", "bridge", web)
        fleet("network", "connect", other, web)
        assert interfaces(fleet, web) == ["eth0", "eth1"]
        assert asks(fleet, web, db)
        assert identity(fleet, web) == before


def test_a_paused_container_joins_a_network(fleet: Fleet, web: str, other: str) -> None:
    fleet("pause", web)
    fleet("network", "connect", other, web)
    assert networks(fleet, web)[other]
    fleet("unpause", web)
    assert interfaces(fleet, web) == ["eth0", "eth1"]


def test_an_address_may_be_chosen(fleet: Fleet, web: str, service: str) -> None:
    fleet("network", "create", "--subnet", "10.77.0.0/16", f"{service}-fixed")
    try:
        with running(fleet, f"{web}-db", "--network", f"{service}-fixed", "--ip", "10.77.0.9"):
            line = ("network", "connect", "--ip")
            taken = fleet.refused(*line, "10.77.0.9", f"{service}-fixed", web)
            assert f'10.77.0.9 of network "{service}-fixed" is already that of' in taken
            outside = fleet.refused(*line, "10.78.0.9", f"{service}-fixed", web)
            assert "10.77.0.0/16" in outside
            assert "IPv4 address" in fleet.refused(*line, "10.77.0.300", f"{service}-fixed", web)
            assert list(networks(fleet, web)) == ["app"]
            fleet(*line, "10.77.4.9", f"{service}-fixed", web)
            assert networks(fleet, web)[f"{service}-fixed"] == "10.77.4.9"
            assert "10.77.4.9/" in inside(fleet, web, "ip -4 addr show dev eth1")
            fleet("network", "disconnect", f"{service}-fixed", web)
    finally:
        fleet("network", "rm", f"{service}-fixed")


def test_published_ports_stay_when_a_container_leaves_its_network(
    fleet: Fleet, other: str, service: str
) -> None:
    with running(fleet, service, "--network", other, "-p", "28443:80") as web:
        reached(fleet, "lan", "10.99.0.2", 28443)
        before = identity(fleet, web)
        fleet("network", "disconnect", other, web)
        reached(fleet, "lan", "10.99.0.2", 28443)
        fleet("network", "connect", other, web)
        reached(fleet, "lan", "10.99.0.3", 28443)
        assert identity(fleet, web) == before


def test_what_cannot_be_is_refused_in_dockers_words(fleet: Fleet, web: str, other: str) -> None:
    fleet("network", "connect", other, web)
    with running(fleet, f"{web}-h", "--network", "host") as host:
        host_conflict = "container cannot be disconnected from host network or connected to host"
        refusals = {
            ("connect", other, web): f"endpoint with name {web} already exists in network {other}",
            ("connect", "nowhere", web): "network nowhere not found",
            ("connect", other, "nobody"): "No such container: nobody",
            ("connect", "host", web): host_conflict,
            ("connect", other, host): host_conflict,
            ("disconnect", "host", host): host_conflict,
            ("connect", "none", web): "with one of the networks in private (none) mode",
            (
                "disconnect",
                "bridge",
                web,
            ): f"container {web} is not connected to the network bridge",
            ("disconnect", "nowhere", web): "network nowhere not found",
            ("connect", "--alias", "a b", other, web): '--alias: value "a b" is not valid',
            ("connect", "--link", "db", other, web): "--link is not supported: containers on one",
            ("connect", "--ip6", "fd00::9", other, web): "--ip6 is not supported: the IPv6 address",
            ("connect", "--link-local-ip", "169.254.1.9", other, web): "use --ip",
            ("connect", "--driver-opt", "a=b", other, web): "use `network create --opt`",
            ("connect", "--gw-priority", "1", other, web): "the default route is by the first",
        }
        for words, told in refusals.items():
            assert told in fleet.refused("network", *words), words
    in_use = fleet.refused("network", "rm", other)
    assert f'network "{other}" is in use by container "{web}"' in in_use
    assert sorted(networks(fleet, web)) == sorted(["app", other])


def test_a_container_whose_node_cannot_carry_a_network_runs_on_as_it_was(
    fleet: Fleet, web: str, service: str
) -> None:
    (row,) = fleet.rows("ps", "--filter", f"name=^{web}$")
    lan = ("ip", "route", "{}", "10.88.3.0/24", "dev", "lo")
    before = identity(fleet, web)
    fleet("network", "create", "--subnet", "10.88.0.0/16", f"{service}-lan")
    added = fleet.on(row["Node"], *[word.format("add") for word in lan])
    assert added.code == 0, added.err
    try:
        told = fleet.refused("network", "connect", f"{service}-lan", web)
        assert f"node {row['Node']} refused: " in told
        assert "overlaps a route of this host" in told
        assert list(networks(fleet, web)) == ["app"]
        assert interfaces(fleet, web) == ["eth0"]
        assert identity(fleet, web) == before
    finally:
        fleet.on(row["Node"], *[word.format("del") for word in lan])
        fleet("network", "rm", f"{service}-lan")


def test_services_are_refused_with_the_alternative(fleet: Fleet, other: str, service: str) -> None:
    fleet("service", "create", "--name", service, "--network", "app", IMAGE)
    for ref in (service, f"{service}.1"):
        told = fleet.refused("network", "connect", other, ref)
        assert f"`pyswarm service update --network-add {other} {service}`" in told
        told = fleet.refused("network", "disconnect", "app", ref)
        assert f"`pyswarm service update --network-rm app {service}`" in told


def test_events_and_the_audit_log_tell_of_it(fleet: Fleet, web: str, other: str) -> None:
    fleet("network", "connect", other, web)
    fleet("network", "disconnect", other, web)
    told = fleet(
        *("events", "--since", "10m", "--until", "0s", "--filter", f"network={other}"),
        *("--format", "{{.Type}} {{.Action}} {{.Name}} {{.Container}}"),
    )
    assert f"network connect {other} {web}\nnetwork disconnect {other} {web}" in told
    verbs = [row["Verb"] for row in fleet.rows("audit", "--object", f"service/{web}")]
    assert verbs[-2:] == ["network connect", "network disconnect"]


def test_a_killed_agent_finishes_what_it_began(fleet: Fleet, web: str, other: str) -> None:
    (row,) = fleet.rows("ps", "--filter", f"name=^{web}$")
    before = identity(fleet, web)
    for words, after_s in (
        (("connect", other, web), 0.3),
        (("disconnect", "--force", other, web), 0.35),
        (("connect", other, web), 0.4),
    ):
        with subprocess.Popen([PYSWARM, "network", *words], env=fleet.environment) as changing:
            time.sleep(after_s)
            fleet.kill(row["Node"])
            assert changing.wait(COMMAND_LIMIT_S) == 0
        if words[0] == "connect":
            fleet.until(lambda: has_interfaces(fleet, web, 2), "it has joined")
            assert sorted(networks(fleet, web)) == sorted(["app", other])
        else:
            fleet.until(lambda: has_interfaces(fleet, web, 1), "it has left")
    assert identity(fleet, web) == before
    assert asks(fleet, web, web)
    ports = fleet.on(row["Node"], "ip", "-o", "link", "show", "type", "veth").out
    assert len(re.findall(r"-t[0-9a-z]+@", ports)) == 2, "no interface is left on the host"


def has_interfaces(fleet: Fleet, name: str, count: int) -> bool:
    """Whether the container has so many; its agent may be starting."""
    done = fleet.run("exec", name, "sh", "-c", "ls /sys/class/net")
    return done.code == 0 and len(done.out.split()) == count + 1
