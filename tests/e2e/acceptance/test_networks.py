"""What a Docker user types about networks, on a real fleet and on a terminal."""

import json
from collections.abc import Iterator

import pytest

from tests.e2e.acceptance.fleet import IMAGE, PYSWARM, Fleet
from tests.e2e.acceptance.web import PAGE
from tests.fixtures.terminal import Terminal

PREDEFINED = {"bridge": "bridge", "host": "host", "none": "null"}


@pytest.fixture
def network(fleet: Fleet, service: str) -> Iterator[str]:
    """The name of a network, which is removed with its containers if the test leaves it."""
    name = f"n-{service}"
    yield name
    for container in ("db", "web"):
        fleet.run("rm", "-f", f"{service}-{container}")
    fleet.run("network", "rm", "-f", name, f"{name}-unused")


def run(fleet: Fleet, name: str, *flags: str) -> str:
    """Start a container that serves pages; its id."""
    return fleet("run", "-d", "--name", name, "--stop-timeout", "0", *flags, IMAGE)


def inspected(fleet: Fleet, *words: str) -> dict[str, object]:
    (found,) = json.loads(fleet("network", "inspect", *words))
    assert isinstance(found, dict)
    return found


def address(fleet: Fleet, container: str) -> str:
    return fleet("inspect", "-f", "{{.NetworkSettings.IPAddress}}", container)


def test_containers_of_a_network_find_each_other_by_name_on_any_host(
    fleet: Fleet, service: str, network: str
) -> None:
    db, web = f"{service}-db", f"{service}-web"
    network_id = fleet("network", "create", network)
    db_id = run(fleet, db, "--network", network, "--node", "host1")
    run(fleet, web, "--network", f"name={network_id},alias={service}-alias", "--node", "host2")
    for here, there in ((web, db), (db, web), (db, f"{service}-alias")):
        page = fleet("exec", here, "wget", "-q", "-O", "-", f"http://{there}{PAGE}")
        assert "client" in page
    found = inspected(fleet, network)
    assert (found["Name"], found["Id"], found["Driver"]) == (network, network_id, "overlay")
    containers = found["Containers"]
    assert isinstance(containers, dict)
    assert {one["Name"] for one in containers.values()} == {db, web}
    assert containers[db_id]["IPv4Address"] == f"{address(fleet, db)}/16"
    services = inspected(fleet, "-v", network)["Services"]
    assert isinstance(services, dict)
    assert services[db]["Tasks"][0]["EndpointIP"] == address(fleet, db)
    assert services[db]["Tasks"][0]["Info"]["Host IP"] == "10.99.0.1"
    assert f'is in use by container "{db}"' in fleet.refused("network", "rm", network)
    assert fleet("ps", "-f", f"network={network}", "--format", "{{.Names}}").split() == [web, db]
    fleet("rm", "-f", db, web)
    assert fleet("network", "rm", network) == network
    said = fleet.run("network", "inspect", network)
    assert (said.code, said.out.strip()) == (1, "[]")
    assert said.err == f"Error: network {network} not found\n"


def test_predefined_networks_are_those_that_every_host_has(fleet: Fleet, service: str) -> None:
    rows = {row["Name"]: row for row in fleet.rows("network", "ls")}
    shown = {name: (rows[name]["Driver"], rows[name]["Scope"]) for name in PREDEFINED}
    assert shown == {name: (driver, "local") for name, driver in PREDEFINED.items()}
    assert (rows["app"]["Driver"], rows["app"]["Scope"]) == ("overlay", "swarm")
    lines = fleet("network", "ls").splitlines()
    assert lines[0].split() == ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]
    assert fleet("network", "ls", "-q", "-f", "type=builtin").split() == sorted(PREDEFINED)
    assert fleet("network", "ls", "-q", "-f", "driver=bridge") == "bridge"
    assert "app" not in fleet("network", "ls", "-f", "scope=local", "--format", "{{.Name}}")
    for name in PREDEFINED:
        refused = fleet.refused("network", "rm", name)
        assert refused == f"Error: {name} is a pre-defined network and cannot be removed\n"
        refused = fleet.refused("network", "create", name)
        assert f"operation is not permitted on predefined {name} network" in refused
        form = ("-f", "{{.Driver}} {{.Scope}}")
        expected = f"{PREDEFINED[name]} local"
        assert fleet("network", "inspect", *form, name) == expected
        assert fleet("inspect", "--type", "network", *form, name) == expected


@pytest.mark.parametrize(
    ("flags", "joined", "devices"),
    [
        ((), "bridge", ["eth0", "lo"]),
        (("--network", "bridge"), "bridge", ["eth0", "lo"]),
        (("--network", "default"), "bridge", ["eth0", "lo"]),
        (("--network", "none"), "none", ["lo"]),
        (("--network", "host"), "host", None),
    ],
)
def test_a_container_is_on_the_predefined_network_of_its_host(
    flags: tuple[str, ...], joined: str, devices: list[str] | None, fleet: Fleet, service: str
) -> None:
    name = f"{service}-db"
    container_id = run(fleet, name, *flags)
    try:
        node = fleet("inspect", "-f", "{{.Node.Name}}", name)
        assert fleet("inspect", "-f", "{{.HostConfig.NetworkMode}}", name) == joined
        found = fleet("exec", name, "ip", "-o", "link").splitlines()
        links = sorted(
            line.split()[1].partition("@")[0].rstrip(":") for line in found if "NOARP" not in line
        )
        own = fleet.on(node, "busybox", "ip", "-o", "link").out.splitlines()
        assert len(links) == (
            len(devices) if devices else len(own) - sum("NOARP" in o for o in own)
        )
        assert devices is None or links == devices
        (container,) = json.loads(fleet("network", "inspect", joined))[0]["Containers"].items()
        assert (container[0], container[1]["Name"]) == (container_id, name)
        assert container[1]["IPv4Address"] == address(fleet, name)
        assert bool(container[1]["IPv4Address"]) == (joined == "bridge")
    finally:
        fleet("rm", "-f", name)


def test_a_container_joins_several_networks(fleet: Fleet, service: str, network: str) -> None:
    fleet("network", "create", network)
    run(fleet, f"{service}-db", "--network", network, "--network", "app", "--network", "bridge")
    run(fleet, f"{service}-web", "--network", "app")
    page = fleet("exec", f"{service}-web", "wget", "-q", "-O", "-", f"http://{service}-db{PAGE}")
    assert "client" in page
    form = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}"
    assert fleet("inspect", "-f", form, f"{service}-db").split() == ["app", "bridge", network]
    beside = fleet.run("run", "-d", "--network", "host", "--network", network, IMAGE)
    assert (beside.code, "expected no other network beside it" in beside.err) == (125, True)


def test_a_container_with_ports_is_on_the_ingress_network_with_or_without_bridge(
    fleet: Fleet, service: str
) -> None:
    name = f"{service}-web"
    run(fleet, name, "--network", "bridge", "-p", "28990:80")
    try:
        form = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}"
        assert fleet("inspect", "-f", form, name) == "ingress"
        refused = fleet.run("run", "-d", "--network", f"container:{name}", IMAGE)
        assert (refused.code, "give both --network NAME" in refused.err) == (125, True)
        missing = fleet.run("run", "-d", "--network", "nowhere", IMAGE)
        told = (
            "Error: --network: network nowhere not found: `pyswarm network ls` lists all networks"
        )
        assert (missing.code, missing.err) == (125, f"{told}\n")
    finally:
        fleet("rm", "-f", name)


def test_drivers_of_docker_mean_an_overlay_or_are_refused(
    fleet: Fleet, service: str, network: str
) -> None:
    made = fleet.run("network", "create", "-d", "bridge", "--subnet", "10.77.0.0/24", network)
    assert made.code == 0
    assert made.err == (
        f"network {network}: driver bridge means overlay: the network reaches every host\n"
    )
    found = inspected(fleet, network)
    assert found["IPAM"] == {
        "Driver": "default",
        "Options": None,
        "Config": [{"Subnet": "10.77.0.0/24"}],
    }
    assert (found["Driver"], found["Scope"]) == ("overlay", "swarm")
    taken = fleet.refused("network", "create", network)
    assert taken.startswith(f"Error: network with name {network} already exists")
    overlaps = fleet.refused("network", "create", "--subnet", "10.77.0.128/25", f"{network}-x")
    assert "overlaps" in overlaps
    for driver in ("macvlan", "ipvlan", "host", "null", "weave"):
        said = fleet.refused("network", "create", "-d", driver, f"{network}-x")
        assert f'--driver: value "{driver}" is not valid: ' in said
    assert fleet("network", "ls", "-q", "-f", f"name=^{network}-x$") == ""


def test_unused_networks_are_pruned(fleet: Fleet, service: str, network: str) -> None:
    label, unused = f"of={service}", f"{network}-unused"
    fleet("network", "create", "--label", label, network)
    fleet("network", "create", "--label", label, "--label", "keep", unused)
    run(fleet, f"{service}-db", "--network", network)
    labelled = ("--filter", f"label={label}")
    assert fleet("network", "ls", "-f", "dangling=true", *labelled, "--format", "{{.Name}}") == (
        unused
    )
    assert fleet("network", "prune", "-f", *labelled, "--filter", "label!=keep") == ""
    assert fleet("network", "prune", "-f", *labelled, "--filter", "until=1h") == ""
    words = [str(PYSWARM), "network", "prune", *labelled]
    with Terminal(words, fleet.environment, columns=120) as asked:
        asked.until("WARNING! This will remove all custom networks not used by at least one")
        asked.until(r"continue\? \[y/N\]: ")
        asked.type("n\n")
        assert asked.ended() == 0
    with Terminal(words, fleet.environment, columns=120) as asked:
        asked.until(r"continue\? \[y/N\]: ")
        asked.type("y\n")
        asked.until(f"Deleted Networks:\r\n{unused}\r\n")
        assert asked.ended() == 0
    fleet("stop", f"{service}-db")
    assert fleet("network", "prune", "-f", *labelled) == ""
    assert fleet("network", "ls", "-f", f"label={label}", "--format", "{{.Name}}") == network
    fleet("rm", f"{service}-db")
    assert fleet("network", "prune", "-f", *labelled) == f"Deleted Networks:\n{network}"


def test_a_missing_network_is_named_by_each_verb(fleet: Fleet) -> None:
    for verb in ("inspect", "rm"):
        said = fleet.run("network", verb, "nowhere", "nothing")
        assert (said.code, said.err) == (
            1, "Error: network nowhere not found; network nothing not found\n",
        )  # fmt: skip
    assert fleet.run("network", "rm", "-f", "nowhere").code == 0
    assert "expected one of custom, builtin" in fleet.refused("network", "ls", "-f", "type=x")
    assert "dangling, driver, id, label" in fleet.refused("network", "ls", "-f", "size=3")
    assert "expected until=TIME" in fleet.refused("network", "prune", "-f", "--filter", "x=1")
