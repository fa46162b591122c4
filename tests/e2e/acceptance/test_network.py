"""Overlay networks: who reaches whom."""

from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_interface

from tests.e2e.acceptance.fleet import IMAGE, Fleet
from tests.e2e.acceptance.web import LATE_S, TIMEOUT_S, ask_from, fetch, listening, page_outside


def reaches(fleet: Fleet, task_id: str, address: str, timeout_s: float = LATE_S) -> bool:
    """Whether one task gets the page of that at the address."""
    answer = ask_from(fleet, task_id, address, timeout_s=timeout_s)
    return answer is not None and address in answer.addresses


def spread(fleet: Fleet, service: str, network: str) -> dict[str, str]:
    """A replica on every host: host to task id."""
    fleet("service", "create", "--name", service, "--network", network, "--mode", "global", IMAGE)
    listening(fleet, service)
    return {task["Node"]: task["ID"] for task in fleet.running(service)}


def test_tasks_of_one_network_reach_each_other_across_hosts(fleet: Fleet, service: str) -> None:
    on = spread(fleet, service, "app")
    for here, there in (("host1", "host2"), ("host2", "host3"), ("host3", "host1")):
        address = fleet.address(on[there])
        fleet.until(
            lambda a=address, h=here: reaches(fleet, on[h], a),  # type: ignore[misc]
            f"{here} reaches {address} on {there}",
        )


def test_tasks_of_different_networks_do_not_reach_each_other(fleet: Fleet, service: str) -> None:
    fleet("network", "create", "-d", "overlay", "other")
    ours = spread(fleet, service, "app")
    theirs = spread(fleet, f"{service}x", "other")
    try:
        there = [fleet.address(theirs[host]) for host in ("host1", "host2")]
        with ThreadPoolExecutor() as pool:
            own = list(pool.map(lambda a: reaches(fleet, theirs["host1"], a), there))
            strange = list(pool.map(lambda a: reaches(fleet, ours["host1"], a, TIMEOUT_S), there))
        assert (own, strange) == ([True, True], [False, False])
    finally:
        fleet("service", "rm", f"{service}x")
        fleet.until(lambda: fleet.run("network", "rm", "other").code == 0, "the network is gone")


def test_a_task_has_the_address_that_was_chosen_also_after_an_update(
    fleet: Fleet, service: str
) -> None:
    on, fixed = spread(fleet, service, "app"), f"{service}x"
    block = ip_interface(f"{fleet.address(on['host2'])}/26").network
    address = str(block[40])
    words = ("--name", fixed, "--network", "app", "--ip", address)
    fleet("service", "create", *words, IMAGE)
    try:
        listening(fleet, fixed)
        for change in ((), ("--env-add", "A=1")):
            if change:
                fleet("service", "update", *change, fixed)
                listening(fleet, fixed)
            (task,) = fleet.running(fixed)
            assert task["Node"] == "host2", "it has the block"
            assert fleet.address(task["ID"]) == address
            shown = fleet.inside(task["ID"], "ip", "-o", "addr", "show", "dev", "eth0").out
            assert f" {address}/" in shown
            fleet.until(lambda: reaches(fleet, on["host1"], address), "another host reaches it")
        said = fleet.refused("service", "create", "--network", "app", "--ip", address, IMAGE)
        assert f'is already that of service "{fixed}"' in said
        held = fleet.address(on["host2"])
        words = ("--restart-condition", "none", "--network", "app", "--ip", held)
        done = fleet.run("service", "create", "--name", f"{fixed}y", *words, IMAGE)
        assert (done.code, f"address {held} is that of task {on['host2']}" in done.err) == (4, True)
        fleet("service", "rm", f"{fixed}y")
    finally:
        fleet("service", "rm", fixed)


def test_the_default_route_leaves_by_the_underlay(fleet: Fleet, service: str) -> None:
    on = spread(fleet, service, "app")
    with page_outside(fleet) as address:
        assert fetch(fleet, on["host1"], f"http://{address}/", LATE_S) == "hello"


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
    assert "bad" not in {row["Name"] for row in fleet.rows("network", "ls")}
