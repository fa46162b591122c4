"""Containers do not reach the control plane, unless their service may call the fleet's API."""

from pyswarm_core.limits import AGENT_METRICS_PORT, API_PORT, CONTROLLER_METRICS_PORT
from pyswarm_core.registry.limits import REGISTRY_PORT
from tests.e2e.acceptance.fleet import IMAGE, Fleet
from tests.e2e.acceptance.web import attempt, reached
from tests.fixtures.netns import inside

HOSTS = ("10.99.0.1", "10.99.0.2", "10.99.0.3")
CONTROLLER = "10.99.0.1"
BRIDGE_GATEWAY = "10.127.0.1"
CLOSED = (
    (CONTROLLER, API_PORT),
    (CONTROLLER, CONTROLLER_METRICS_PORT),
    (CONTROLLER, REGISTRY_PORT),
    *((address, AGENT_METRICS_PORT) for address in HOSTS),
)


def gateway(fleet: Fleet, task_id: str) -> str:
    """The task's next hop: an address of its host."""
    return fleet.inside(task_id, "ip", "-4", "route", "show", "default").out.split()[2]


def test_containers_reach_no_port_of_the_control_plane(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, "--mode", "global", "--network", "app", IMAGE)
    plain = f"{service}-plain"
    fleet("service", "create", "--name", plain, "--mode", "global", IMAGE)
    try:
        for place in ("host1", "host2", "host3"):
            for address, port in CLOSED:
                assert attempt(fleet, place, address, port) == "open", (place, address, port)
        on_app, on_bridge = fleet.running(service), fleet.running(plain)
        tasks = [*on_app, *on_bridge]
        assert len(tasks) == 6
        # The last agent's first report of its metrics is sent to the others within seconds.
        fleet.until(
            lambda: all(
                attempt(fleet, task["ID"], *where) == "refused"
                for task in tasks
                for where in CLOSED
            ),
            "everything is closed to every task",
        )
        gateways = [gateway(fleet, task["ID"]) for task in on_app]
        reachable = [(task, address) for task in on_app for address in (*gateways, BRIDGE_GATEWAY)]
        reachable += [(task, BRIDGE_GATEWAY) for task in on_bridge]
        for task, address in reachable:
            assert attempt(fleet, task["ID"], address, API_PORT) == "refused"
        # The embedded etcd listens on no address at all.
        for port in (2379, 2380):
            for address in HOSTS:
                assert attempt(fleet, tasks[0]["ID"], address, port) == "refused"
        rules = fleet.on("host2", "nft", "list", "counter", "inet", "pyswarm_psw", "control_plane")
        assert "packets 0 " not in rules.out, rules
        metrics = inside(
            fleet.netns("host2"), lambda: fleet.scraper.fetch(HOSTS[1], AGENT_METRICS_PORT, 10)
        )
        assert "pyswarm_agent_control_plane_refusals_total" in metrics
    finally:
        fleet("service", "rm", plain)


def test_a_service_with_allow_fleet_api_reaches_the_api_alone(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, "--mode", "global", "--allow-fleet-api", IMAGE)
    tasks = fleet.running(service)
    assert len(tasks) == 3
    for task in tasks:
        assert attempt(fleet, task["ID"], CONTROLLER, API_PORT) == "open"
        for address, port in CLOSED[1:]:
            assert attempt(fleet, task["ID"], address, port) == "refused"
    fleet("service", "update", "--no-allow-fleet-api", service)
    for task in fleet.running(service):
        assert task["ID"] not in {old["ID"] for old in tasks}
        assert attempt(fleet, task["ID"], CONTROLLER, API_PORT) == "refused"


def test_a_published_port_of_the_same_number_stays_open(fleet: Fleet, service: str) -> None:
    fleet(
        *("service", "create", "--name", service, "--mode", "global", "--network", "app"),
        *("-p", f"{API_PORT + 3}:80", "-p", f"published={AGENT_METRICS_PORT + 1},target=80"),
        *("-p", f"published={AGENT_METRICS_PORT},target=80,mode=host", IMAGE),
    )
    for number, task in enumerate(sorted(fleet.running(service), key=lambda t: t["Node"]), 1):
        reached(fleet, task["ID"], f"10.99.0.{number}", AGENT_METRICS_PORT)
        reached(fleet, task["ID"], gateway(fleet, task["ID"]), AGENT_METRICS_PORT)
        for address in HOSTS:
            reached(fleet, task["ID"], address, API_PORT + 3)
