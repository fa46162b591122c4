"""`pyswarm net trace` names every kind of broken hop, before the agents mend it."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from tests.e2e.acceptance.fleet import IMAGE, PATIENT, Fleet
from tests.e2e.acceptance.web import listening, page_outside

pytestmark = pytest.mark.slow

HOSTS = {"host1": "10.99.0.1", "host2": "10.99.0.2", "host3": "10.99.0.3"}
Hops = list[dict[str, Any]]


class Ends(msgspec.Struct, frozen=True):
    """A service with a task on every host; the ends are those of host1 and host2."""

    service: str
    here: str
    there: str
    local: str
    """A task of another service on host1."""
    here_id: str
    there_id: str


ENVIRONMENT = PATIENT


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """It is wrecked, and its agents are killed."""
    return own_fleet


@pytest.fixture(scope="module")
def ends(fleet: Fleet) -> Iterator[Ends]:
    fleet("network", "create", "-d", "overlay", "other")
    glob = ("--mode", "global", "--network", "app")
    fleet("service", "create", "--name", "tr", *glob, IMAGE)
    only = ("--constraint", "node.hostname==host1", "--network", "app")
    fleet("service", "create", "--name", "near", *only, IMAGE)
    fleet("service", "create", "--name", "apart", "--network", "other", IMAGE)
    on = {task["Node"]: task["ID"] for task in fleet.running("tr")}
    local = fleet.running("near")[0]["ID"]
    made = Ends("tr", on["host1"], on["host2"], local, on["host1"], on["host2"])
    for service in ("tr", "near", "apart"):
        listening(fleet, service)
    healthy(fleet, made)
    yield made
    fleet.run("service", "rm", "tr", "near", "apart")


def traced(fleet: Fleet, source: str, target: str) -> Hops:
    """The hops; the exit code must say whether the last is broken."""
    done = fleet.run("net", "trace", "--format", "json", source, target)
    hops = [json.loads(line) for line in done.out.splitlines()]
    assert hops, done.err
    assert done.code == int(hops[-1]["State"] == "broken"), done
    return hops


def broken(fleet: Fleet, source: str, target: str, harm: Callable[[], object]) -> dict[str, Any]:
    """The hop that is broken after `harm`; if an agent was faster, harm is done again."""
    last: list[dict[str, Any]] = []

    def attempt() -> bool:
        harm()
        last.append(traced(fleet, source, target)[-1])
        return bool(last[-1]["State"] == "broken")

    fleet.until(attempt, "a broken hop is named")
    assert last[-1]["Remedy"]
    return last[-1]


def healthy(fleet: Fleet, ends: Ends, *harmed: str) -> None:
    """The way is whole again. An agent mends what it finds at its start, so it need not be waited
    for: test_network_faults.py shows that it would have come by itself.
    """
    for host in harmed:
        fleet.kill(host)
    ways = ((ends.here, ends.there), (ends.there, ends.here), (ends.here, ends.service))
    fleet.until(
        lambda: all(fleet.run("net", "trace", *way).code == 0 for way in ways),
        "the way is whole again",
    )


def whole(fleet: Fleet, source: str, target: str) -> Hops:
    """The hops of a way, once none of them is broken or slow."""
    found: list[Hops] = []

    def trace() -> bool:
        found.append(traced(fleet, source, target))
        return {hop["State"] for hop in found[-1]} == {"ok"}

    fleet.until(trace, f"the way from {source} to {target} is whole")
    return found[-1]


def words(hops: Hops) -> list[str]:
    return [hop["Hop"] for hop in hops]


WAY = ["backend", "task", "host", "host", "task", "rules", "rules", "tunnel", "tunnel"]


def test_a_whole_way_to_another_host(fleet: Fleet, ends: Ends) -> None:
    hops = whole(fleet, ends.here, ends.there)
    assert words(hops) == ["name", *WAY, "mtu", "mtu", "listener", "connect"], hops


def test_a_whole_way_to_a_service_goes_by_its_virtual_address(fleet: Fleet, ends: Ends) -> None:
    vip = ""
    for target in (f"{ends.service}:80", f"{ends.service}.app"):
        hops = whole(fleet, "near", target)
        assert words(hops)[:3] == ["name", "vip", "backend"]
        assert words(hops)[-2:] == ["connect", "connect"]
        vip = hops[0]["Found"].split()[-1]
    assert words(traced(fleet, "near", vip))[:2] == ["vip", "backend"]


def test_addresses_of_tasks_and_of_nobody(fleet: Fleet, ends: Ends) -> None:
    hops = whole(fleet, "near", f"tasks.{ends.service}")
    assert words(hops)[:3] == ["name", "backend", "task"]
    with page_outside(fleet) as address:
        assert words(whole(fleet, "near", address))[-1] == "connect"
    hop = traced(fleet, "near", "10.99.0.1:2377")[-1]
    assert (hop["Hop"], hop["State"]) == ("connect", "broken")
    assert "the control plane is closed to tasks" in hop["Found"]
    hop = traced(fleet, "near", "10.99.0.250:5999")[-1]
    assert (hop["Hop"], hop["State"]) == ("connect", "broken")


def test_tasks_of_one_host_meet_on_its_bridge(fleet: Fleet, ends: Ends) -> None:
    hops = whole(fleet, ends.here, ends.local)
    assert "bridge" in words(hops)
    assert "tunnel" not in words(hops)


def test_a_table_for_people_ends_with_the_remedy(fleet: Fleet, ends: Ends) -> None:
    done = fleet.run("net", "trace", ends.here, f"{ends.there}:81")
    assert done.code == 1
    assert done.out.splitlines()[0].split() == ["HOP", "PLACE", "STATE", "TIME", "FOUND"]
    assert "listener is broken" in done.out
    assert "Remedy: " in done.out


def test_nothing_listens(fleet: Fleet, ends: Ends) -> None:
    hop = traced(fleet, ends.here, f"{ends.there}:81")[-1]
    assert (hop["Hop"], hop["State"]) == ("listener", "broken")
    assert "nothing listens on port 81" in hop["Found"]


def test_another_network(fleet: Fleet, ends: Ends) -> None:
    hop = traced(fleet, ends.here, "apart")[-1]
    assert (hop["Hop"], hop["State"]) == ("name", "broken")
    assert "share no network" in hop["Found"]
    assert f"--network-add other {ends.service}" in hop["Remedy"]
    address = fleet.address(fleet.running("apart")[0]["ID"])
    hop = traced(fleet, ends.here, address)[-1]
    assert (hop["Hop"], hop["State"]) == ("backend", "broken")
    assert "on network other" in hop["Found"]


def test_a_name_that_nobody_has(fleet: Fleet, ends: Ends) -> None:
    hop = traced(fleet, ends.here, "nobody.invalid.")[-1]
    assert (hop["Hop"], hop["State"]) == ("name", "broken")


def test_a_deleted_fdb_entry(fleet: Fleet, ends: Ends) -> None:
    def harm() -> None:
        for line in fleet.on("host1", "bridge", "fdb", "show").out.splitlines():
            fields = line.split()
            if HOSTS["host2"] in fields:
                device = fields[fields.index("dev") + 1]
                fleet.on("host1", "bridge", "fdb", "del", fields[0], "dev", device)

    hop = broken(fleet, ends.here, ends.there, harm)
    assert (hop["Hop"], hop["Place"]) == ("host", "host1")
    assert "fdb" in hop["Found"]
    healthy(fleet, ends, "host1")


def test_a_deleted_route_of_the_return_path(fleet: Fleet, ends: Ends) -> None:
    def harm() -> None:
        routes = fleet.on("host2", "ip", "-o", "route", "show", "proto", "97").out.splitlines()
        for line in routes:
            if "onlink" in line:
                fleet.on("host2", "ip", "route", "del", line.split()[0])

    hop = broken(fleet, ends.here, ends.there, harm)
    assert (hop["Hop"], hop["Place"]) == ("host", "host2")
    assert "route" in hop["Found"]
    healthy(fleet, ends, "host2")


def test_a_device_with_a_wrong_mtu(fleet: Fleet, ends: Ends) -> None:
    def harm() -> None:
        for line in fleet.on("host1", "ip", "-o", "link", "show", "type", "vxlan").out.splitlines():
            fleet.on("host1", "ip", "link", "set", line.split()[1].strip(":"), "mtu", "1000")

    hop = broken(fleet, ends.here, ends.there, harm)
    assert (hop["Hop"], hop["Place"]) == ("host", "host1")
    assert "mtu 1450" in hop["Found"]
    healthy(fleet, ends, "host1")


def test_rules_of_a_task_that_are_gone(fleet: Fleet, ends: Ends) -> None:
    hop = broken(
        fleet,
        ends.here,
        ends.service,
        lambda: fleet.inside(ends.here_id, "nft", "flush", "ruleset"),
    )
    assert hop["Hop"] == "name"
    assert "the rules in the task's namespace" in hop["Found"]
    healthy(fleet, ends, "host1")


def test_rules_of_a_task_that_forward_elsewhere(fleet: Fleet, ends: Ends) -> None:
    def harm() -> None:
        fleet.inside(ends.here_id, "nft", "flush", "map", "inet", "pyswarm", "backends")

    hop = broken(fleet, ends.here, ends.service, harm)
    assert hop["Hop"] == "vip"
    assert "the rules in the task's namespace" in hop["Found"]
    healthy(fleet, ends, "host1")


@pytest.fixture
def firewall(fleet: Fleet) -> Iterator[Callable[[str, str], None]]:
    """Adds rules to a table of somebody else's on a host."""
    touched: list[str] = []

    def add(host: str, text: str) -> None:
        touched.append(host)
        done = fleet.on(host, "nft", f"table ip filter {{ {text}\n}}")
        assert done.code == 0, done.err

    yield add
    for host in touched:
        fleet.on(host, "nft", "delete", "table", "ip", "filter")


@pytest.mark.parametrize(("deaf", "states"), [("host2", "broken"), ("host1", "ok broken")])
def test_a_tunnel_that_is_cut_one_way(
    fleet: Fleet, ends: Ends, firewall: Callable[[str, str], None], deaf: str, states: str
) -> None:
    firewall(deaf, "chain in { type filter hook input priority 0; udp dport 4789 drop; }")
    hops = traced(fleet, ends.here, ends.there)
    assert [hop["State"] for hop in hops if hop["Hop"] == "tunnel"] == states.split()
    assert hops[-1]["Hop"] == "tunnel"


def test_a_foreign_table_that_drops_is_reported_and_harms_no_pair_on_two_hosts(
    fleet: Fleet, ends: Ends, firewall: Callable[[str, str], None]
) -> None:
    firewall("host1", "chain FORWARD { type filter hook forward priority 0; policy drop; }")
    hops = whole(fleet, ends.here, ends.there)
    (found,) = [h["Found"] for h in hops if (h["Hop"], h["Place"]) == ("rules", "host1")]
    assert "table ip filter chain FORWARD drops what it does not accept" in found
    assert "but lets the pair pass" in found


def test_an_underlay_that_takes_only_smaller_packets(fleet: Fleet, ends: Ends) -> None:
    done = fleet.on("host2", "ip", "-o", "route", "get", HOSTS["host1"])
    leg = done.out.split()[done.out.split().index("dev") + 1]
    assert fleet.on("host2", "ip", "link", "set", leg, "mtu", "1300").code == 0
    try:
        # The plan follows the underlay's device, the network's devices on host2 do not yet.
        hop = broken(fleet, ends.here, ends.there, lambda: None)
        assert (hop["Hop"], hop["Place"]) == ("host", "host2"), hop
        assert "mtu 1250" in hop["Found"]
        fleet.until(
            lambda: traced(fleet, ends.here, ends.there)[-1]["Hop"] == "mtu",
            "host2's devices follow, and the path is still narrower than the tasks' devices",
        )
    finally:
        fleet.on("host2", "ip", "link", "set", leg, "mtu", "1500")
    healthy(fleet, ends)
