"""Published ports: every host answers, backends see who asks, and a deploy loses nothing."""

import re
import socket
import sys
from contextlib import ExitStack
from functools import partial
from itertools import count

import pytest

from tests.e2e.acceptance.fleet import IMAGE, PYSWARM, ROOT, RUNNING, Fleet
from tests.e2e.acceptance.web import LATE_S, PAGE, Answer, answers, ask_from_outside, reached, read
from tests.fixtures.netns import inside

HOSTS = {"host1": "10.99.0.1", "host2": "10.99.0.2", "host3": "10.99.0.3"}
OUTSIDE = "10.99.0.250"
_ports = count(18080)


def test_every_host_answers_and_the_backend_sees_who_asks(fleet: Fleet, service: str) -> None:
    port = next(_ports)
    fleet("service", "create", "--name", service, "--replicas", "2", "-p", f"{port}:80", IMAGE)
    for address in HOSTS.values():
        found = answers(fleet, "lan", address, port, 2)
        assert {answer.client for answer in found} == {OUTSIDE}


def test_connections_from_one_client_port_by_all_hosts_to_one_task(
    fleet: Fleet, service: str
) -> None:
    """A load balancer that keeps its clients' ports opens such connections at the same time."""
    port = next(_ports)
    fleet("service", "create", "--name", service, "-p", f"{port}:80", IMAGE)
    for address in HOSTS.values():
        reached(fleet, "lan", address, port)

    def asked_at_once(own: int) -> list[Answer | None]:
        with ExitStack() as stack:
            opened = [stack.enter_context(_from_port(own, a, port)) for a in HOSTS.values()]
            for connection in opened:
                connection.sendall(f"GET {PAGE} HTTP/1.0\r\n\r\n".encode())
            return [read(one.makefile().read()) for one in opened]

    for own in range(20_001, 20_021, 2):
        found = inside(fleet.netns("lan"), partial(asked_at_once, own))
        assert [answer and answer.client for answer in found] == 3 * [OUTSIDE]


def _from_port(own: int, address: str, port: int) -> socket.socket:
    connection = socket.socket()
    connection.settimeout(LATE_S)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    connection.bind((OUTSIDE, own))
    connection.connect((address, port))
    return connection


def test_the_host_itself_reaches_it(fleet: Fleet, service: str) -> None:
    port = next(_ports)
    fleet("service", "create", "--name", service, "-p", f"{port}:80", IMAGE)
    for host, address in HOSTS.items():
        reached(fleet, host, "127.0.0.1", port)
        reached(fleet, host, address, port)


def test_a_task_reaches_published_ports_of_any_host(fleet: Fleet, service: str) -> None:
    port = next(_ports)
    fleet(
        *("service", "create", "--name", service, "--network", "app", "-p", f"{port}:80"),
        *("--mode", "global", IMAGE),
    )
    for task in fleet.running(service):
        for address in HOSTS.values():
            reached(fleet, task["ID"], address, port)


def test_mode_host_answers_where_a_task_runs_only(fleet: Fleet, service: str) -> None:
    port = next(_ports)
    fleet(
        *("service", "create", "--name", service, "--constraint", "node.hostname==host2"),
        *("-p", f"published={port},target=80,mode=host", IMAGE),
    )
    (answer, *_) = answers(fleet, "lan", HOSTS["host2"], port, 1)
    assert answer.client == OUTSIDE
    assert ask_from_outside(fleet, HOSTS["host1"], port) is None
    assert f":{port}->80/tcp" in fleet.tasks(service, "desired-state=running")[0]["Ports"]


def test_two_tasks_with_one_host_port_go_to_two_hosts(fleet: Fleet, service: str) -> None:
    port = next(_ports)
    fleet(
        *("service", "create", "-d", "--name", service, "--replicas", "4"),
        *("-p", f"published={port},target=80,mode=host", IMAGE),
    )
    fleet.until(lambda: len(fleet.running(service)) == 3, "one on each host")
    assert {task["Node"] for task in fleet.running(service)} == set(HOSTS)
    fleet.until(lambda: "port" in fleet("why", service), "the fourth says what it lacks")
    assert str(port) in fleet("why", service)


def test_a_port_bound_to_one_address_answers_there_only(fleet: Fleet, service: str) -> None:
    port = next(_ports)
    fleet("service", "create", "--name", service, "-p", f"10.99.0.2:{port}:80", IMAGE)
    reached(fleet, "lan", HOSTS["host2"], port)
    assert ask_from_outside(fleet, HOSTS["host1"], port) is None


def test_a_port_nobody_chose_is_found_and_kept(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, "-p", "80", IMAGE)
    words = "{{range .Endpoint.Ports}}{{.PublishedPort}}{{end}}"
    chosen = int(fleet("service", "inspect", service, "--format", words))
    assert 30000 <= chosen <= 32767
    reached(fleet, "lan", HOSTS["host1"], chosen)
    fleet("service", "scale", f"{service}=2")
    assert int(fleet("service", "inspect", service, "--format", words)) == chosen


def test_ports_come_and_go_without_touching_tasks(fleet: Fleet, service: str) -> None:
    port, other = next(_ports), next(_ports)
    fleet("service", "create", "--name", service, "-p", f"{port}:80", IMAGE)
    before = {task["ID"] for task in fleet.running(service)}
    fleet("service", "update", "--publish-add", f"{other}:80", "--publish-rm", "80", service)
    fleet.until(lambda: ask_from_outside(fleet, HOSTS["host1"], other), "the new port answers")
    fleet.until(
        lambda: ask_from_outside(fleet, HOSTS["host1"], port) is None, "the old one does not"
    )
    assert {task["ID"] for task in fleet.running(service)} == before


def replaced_elsewhere(service: str) -> str:
    """A shell's words that end a moment after host2's replicas run on the other hosts."""
    there = f"{PYSWARM} service ps -q --filter node=host2 --filter {RUNNING} {service}"
    whole = f"{PYSWARM} service ls --filter name={service} | grep -q 4/4"
    return (
        f"while {there} | grep -q .; do sleep 0.1; done; until {whole}; do sleep 0.1; done; sleep 1"
    )


@pytest.mark.parametrize("what", ["update", "drain"])
def test_no_request_is_lost_while_replicas_are_replaced(
    fleet: Fleet, service: str, what: str
) -> None:
    port = next(_ports)
    fleet("service", "create", "--name", service, "--replicas", "4", "-p", f"{port}:80", IMAGE)
    for address in HOSTS.values():
        answers(fleet, "lan", address, port, 4)
    before = {task["ID"] for task in fleet.running(service)}
    urls = [f"http://{address}:{port}{PAGE}" for address in HOSTS.values()]
    change = {
        "update": f"service update --env-add GREETING=hello {service}",
        "drain": f"node update --availability drain host2; {replaced_elsewhere(service)}",
    }
    script = ["--while", "sh", "-c", f"{PYSWARM} {change[what]}"]
    asking = [sys.executable, ROOT / "examples/ask", *urls, *script]
    try:
        done = fleet.outside(*map(str, asking))
        fleet.until(
            lambda: what == "update" or "host2" not in {t["Node"] for t in fleet.running(service)},
            "host2 is empty",
        )
    finally:
        fleet.run("node", "update", "--availability", "active", "host2")
    assert "\n0 requests failed" in done.out, done
    assert done.code == 0
    after = {task["ID"] for task in fleet.running(service)}
    replaced = len(before - after)
    assert replaced == 4 if what == "update" else replaced > 0
    answered = re.search(r" answers from (\d+) replicas ", done.out)
    assert answered, done
    assert int(answered[1]) > 4, done
