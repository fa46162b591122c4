"""Dual-stack networks, as a user makes them and programs in containers meet them."""

import json
from collections.abc import Iterator

import pytest

from tests.e2e.acceptance.fleet import IMAGE, Fleet
from tests.e2e.acceptance.test_names import lookup
from tests.e2e.acceptance.web import PAGE, answers, ask, listening

pytestmark = pytest.mark.slow

PORT = 18080


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """Its hosts get addresses, its ingress network has IPv6."""
    return own_fleet


@pytest.fixture
def six(fleet: Fleet, service: str) -> Iterator[str]:
    """A network with IPv6."""
    name = f"{service}n"
    fleet("network", "create", "-d", "overlay", "--ipv6", name)
    yield name
    for left in (service, f"{service}c"):
        fleet.run("service", "rm", left)
    fleet.until(lambda: fleet.run("network", "rm", name).code == 0, "the network is gone")


def addresses(fleet: Fleet, task_id: str) -> list[str]:
    """The task's addresses on its first network, one of each version."""
    found: list[str] = fleet.task(task_id)["NetworksAttachments"][0]["Addresses"]
    return found


def test_a_services_name_leads_to_every_replica_by_ipv6(
    fleet: Fleet, service: str, six: str
) -> None:
    client = f"{service}c"
    fleet(*_create(service, six), "--mode", "global", IMAGE)
    fleet(*_create(client, six), IMAGE)
    caller = fleet.running(client)[0]["ID"]
    listening(fleet, service)
    replicas = {addresses(fleet, task["ID"])[1] for task in fleet.running(service)}
    assert len(replicas) == 3
    (shown,) = json.loads(fleet("service", "inspect", service))
    vip, vip6 = (one["Addr"] for one in shown["Endpoint"]["VirtualIPs"])
    assert lookup(fleet, caller, service) == {vip, vip6}
    fleet.until(
        lambda: replicas < lookup(fleet, caller, f"tasks.{service}"), "its host knows them all"
    )
    (network,) = json.loads(fleet("network", "inspect", "-v", six))
    assert network["Services"][service]["VIPv6"] == vip6
    own = addresses(fleet, caller)[1]
    url = f"http://[{vip6}]{PAGE}"
    script = f"for i in $(seq 30); do timeout 30 wget -q -O - '{url}' || exit 1; done"
    done = fleet.contained(caller, "/bin/sh", "-c", f"PATH=/bin; {script}")
    assert done.code == 0, done.err
    said = [line.split() for line in done.out.splitlines()]
    assert {words[1] for words in said if words[0] == "client:"} == {own}
    assert len({words[1] for words in said if words[0] == "hostname:"}) == 3
    assert ask(fleet, caller, service) is not None
    hosts = fleet.contained(caller, "/bin/cat", "/etc/hosts").out
    assert own in hosts.split()


def test_published_ports_answer_by_ipv6_if_the_ingress_network_has_it(
    fleet: Fleet, service: str
) -> None:
    outside = "fd00:99::250"
    places = {"lan": outside} | {f"host{n}": f"fd00:99::{n}" for n in (1, 2, 3)}
    for place, address in places.items():
        device = _device(fleet, place)
        assert (
            fleet.on(place, "ip", "addr", "add", f"{address}/64", "dev", device, "nodad").code == 0
        )
    fleet("network", "create", "-d", "overlay", "--ipv6", "--ingress", "mesh")
    fleet("service", "create", "--name", service, "--replicas", "2", "-p", f"{PORT}:80", IMAGE)
    for place, address in places.items():
        if place == "lan":
            continue
        found = answers(fleet, "lan", f"[{address}]", PORT, 2)
        assert {answer.client for answer in found} == {outside}


def _create(name: str, network: str) -> tuple[str, ...]:
    return "service", "create", "--name", name, "--network", network


def _device(fleet: Fleet, place: str) -> str:
    """What has the place's address on the underlay."""
    lines = fleet.on(place, "ip", "-4", "-o", "addr").out.splitlines()
    return next(line.split()[1] for line in lines if " 10.99.0." in line)
