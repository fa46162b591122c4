"""Overlay networks: who reaches whom, and what mends itself."""

import sys

from tests.e2e.acceptance.fleet import IMAGE, Done, Fleet


def ask(fleet: Fleet, task_id: str, address: str) -> Done:
    """Fetch the example's page from one task's network namespace."""
    return fetch(fleet, task_id, f"http://{address}/cgi-bin/index.cgi")


def fetch(fleet: Fleet, task_id: str, url: str) -> Done:
    """Fetch a page from one task's network namespace."""
    script = (
        "import sys, urllib.request as r;print(r.urlopen(sys.argv[1], timeout=2).read().decode())"
    )
    return fleet.inside(task_id, sys.executable, "-c", script, url)


def spread(fleet: Fleet, service: str, network: str) -> dict[str, str]:
    """A replica on every host: host to task id."""
    fleet("service", "create", "--name", service, "--network", network, "--mode", "global", IMAGE)
    return {task["Node"]: task["ID"] for task in fleet.running(service)}


def test_tasks_of_one_network_reach_each_other_across_hosts(fleet: Fleet, service: str) -> None:
    on = spread(fleet, service, "app")
    for here, there in (("host1", "host2"), ("host2", "host3"), ("host3", "host1")):
        address = fleet.address(on[there])
        fleet.until(
            lambda a=address, h=here: f"address:  {a}" in ask(fleet, on[h], a).out,  # type: ignore[misc]
            f"{here} reaches {address} on {there}",
        )


def test_tasks_of_different_networks_do_not_reach_each_other(fleet: Fleet, service: str) -> None:
    fleet("network", "create", "-d", "overlay", "other")
    ours = spread(fleet, service, "app")
    theirs = spread(fleet, f"{service}x", "other")
    try:
        for host in ("host1", "host2"):
            address = fleet.address(theirs[host])
            assert ask(fleet, ours["host1"], address).code != 0
            assert ask(fleet, theirs["host1"], address).code == 0
    finally:
        fleet("service", "rm", f"{service}x")
        fleet.until(lambda: fleet.run("network", "rm", "other").code == 0, "the network is gone")


def test_the_way_out_leads_to_the_underlay(fleet: Fleet, service: str) -> None:
    on = spread(fleet, service, "app")
    done = fetch(fleet, on["host1"], "http://10.99.0.250:5000/v2/")
    assert (done.code, done.out.strip()) == (0, "{}")


def test_a_disturbed_route_is_mended(fleet: Fleet, service: str) -> None:
    on = spread(fleet, service, "app")
    address = fleet.address(on["host2"])
    fleet.until(lambda: ask(fleet, on["host1"], address).code == 0, "host1 reaches host2")
    routes = fleet.on("host1", "ip", "-o", "route", "show").out.splitlines()
    through = [line.split()[0] for line in routes if "onlink" in line]
    assert through, routes
    for block in through:
        assert fleet.on("host1", "ip", "route", "del", block).code == 0
    assert ask(fleet, on["host1"], address).code != 0
    fleet.until(lambda: ask(fleet, on["host1"], address).code == 0, "the route is mended")


def test_nothing_of_a_network_stays_on_a_host_without_its_tasks(fleet: Fleet, service: str) -> None:
    spread(fleet, service, "app")
    assert "vxlan" in fleet.on("host1", "ip", "-d", "link", "show", "type", "vxlan").out
    fleet("service", "rm", service)
    fleet.until(
        lambda: not fleet.on("host1", "ip", "link", "show", "type", "vxlan").out.strip(),
        "no VXLAN device is left",
    )


def test_a_subnet_that_the_host_uses_is_refused(fleet: Fleet) -> None:
    said = fleet.refused("network", "create", "-d", "overlay", "--subnet", "10.99.0.0/16", "bad")
    assert "overlaps" in said
    assert [row["Name"] for row in fleet.rows("network", "ls")] == ["app"]
