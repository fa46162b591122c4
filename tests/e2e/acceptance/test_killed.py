"""Whoever is killed comes back, and what was asked for goes on running."""

import os
import random
import signal
import time

import pytest

from pyswarm_core.limits import API_PORT
from tests.e2e.acceptance.fleet import IMAGE, PATIENT, Fleet
from tests.e2e.acceptance.rules import vip_of
from tests.e2e.acceptance.web import answers, ask, asking, attempt, metric

pytestmark = pytest.mark.slow

NIGHTLY = (pytest.mark.nightly, pytest.mark.timeout(900))
ENVIRONMENT = PATIENT
HOSTS = {"host1": "10.99.0.1", "host2": "10.99.0.2", "host3": "10.99.0.3"}


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """Everybody in it is killed."""
    return own_fleet


def on_hosts(fleet: Fleet, service: str) -> dict[str, str]:
    """Host to task id."""
    return {task["Node"]: task["ID"] for task in fleet.running(service)}


def pids(fleet: Fleet, service: str) -> dict[str, int]:
    """Running tasks and the pids of their first processes."""
    return {task["ID"]: fleet.pid(task["ID"]) for task in fleet.running(service)}


def settled(fleet: Fleet, service: str, count: int) -> None:
    """Exactly what was asked for runs, by the controller's word and by the hosts' cgroups."""
    fleet.until(
        lambda: (
            len(fleet.running(service)) == count
            and fleet.containers() == {task["ID"] for task in fleet.running(service)}
        ),
        f"{count} of {service} run, and nothing else",
    )


def test_a_killed_agent_adopts_its_containers(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, "--network", "app", "--replicas", "6", IMAGE)
    before = pids(fleet, service)
    for host in ("host1", "host2", "host3"):
        fleet.kill(host)
    fleet("service", "scale", f"{service}=7")
    after = pids(fleet, service)
    assert {task: after.get(task) for task in before} == before
    assert all(alive(pid) for pid in before.values())
    settled(fleet, service, 7)


def test_the_control_plane_stays_closed_while_agents_die(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, "--mode", "global", IMAGE)
    tasks = on_hosts(fleet, service)
    for host in HOSTS:
        before = fleet.daemon(host)
        fleet.kill(host)
        while fleet.daemon(host) in (0, before):
            assert attempt(fleet, tasks[host], HOSTS["host1"], API_PORT) == "refused"
    everybody_follows(fleet)
    for task in tasks.values():
        assert attempt(fleet, task, HOSTS["host1"], API_PORT) == "refused"


def test_agents_deaths_disturb_no_traffic(fleet: Fleet, service: str) -> None:
    port = 19080
    every = ("--mode", "global", "--network", "app", "-p", f"{port}:80")
    fleet("service", "create", "--name", service, *every, IMAGE)
    for address in HOSTS.values():
        answers(fleet, "lan", address, port, 3)
    tasks, vip = on_hosts(fleet, service), vip_of(fleet, service)
    outside = [("lan", address, port) for address in HOSTS.values()]
    between = [(task, vip, 80) for task in tasks.values()]
    with asking(fleet, *outside, *between):
        for host in HOSTS:
            before = fleet.daemon(host)
            fleet.kill(host)
            fleet.until(lambda h=host, b=before: fleet.daemon(h) not in (0, b), "it is back")  # type: ignore[misc]
        everybody_follows(fleet)
    assert on_hosts(fleet, service) == tasks
    for task in tasks.values():
        fleet.until(lambda t=task: ask(fleet, t, service), "names are answered again")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("host", "daemon", "port"),
    [("host1", "controller", 2377), ("host1", "controller", 9323), ("host2", "agent", 9324)],
)
def test_a_task_that_took_a_daemons_port_is_killed(
    fleet: Fleet, service: str, host: str, daemon: str, port: int
) -> None:
    script = f"while :; do nc -l -p {port} -e true || usleep 10000; done"
    where = ("--network", "host", "--constraint", f"node.hostname=={host}")
    quick = ("--restart-delay", "0s", "--entrypoint", "sh")
    fleet("service", "create", "--name", service, *where, *quick, IMAGE, "-c", script)
    log = fleet.run_dir / host / f"{daemon}.log"
    before = log.stat().st_size
    os.kill(fleet.daemon(host, daemon), signal.SIGKILL)
    fleet.until(
        lambda: f"port.taken_back port={port}" in log.read_text()[before:],
        "the daemon took its port back",
    )
    fleet.until(lambda: fleet.run("service", "rm", service).code == 0, "the service is removed")
    fleet.until(lambda: not fleet.containers(), "no container is left")
    fleet.until(
        lambda: {row["Status"] for row in fleet.rows("node", "ls")} == {"Ready"}, "all are ready"
    )


def everybody_follows(fleet: Fleet) -> None:
    """Every agent has a session and has programmed its kernel since it started."""
    for address in HOSTS.values():
        fleet.until(lambda a=address: metric(fleet, a, "network_revision") > 0, "it follows")  # type: ignore[misc]


def test_an_exit_while_the_agent_is_away_is_not_lost(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, "--restart-delay", "0s", IMAGE)
    (task,) = fleet.running(service)
    pid = fleet.pid(task["ID"])
    fleet.kill(task["Node"])
    os.kill(pid, signal.SIGKILL)
    fleet.until(
        lambda: any(
            t["ID"] == task["ID"] and "signal 9" in t["Error"] for t in fleet.tasks(service)
        ),
        "the old task has failed",
    )
    settled(fleet, service, 1)


def test_a_killed_controller_loses_nothing(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, "--replicas", "4", IMAGE)
    before = pids(fleet, service)
    fleet.kill("host1", "controller")
    # A command waits for a controller that comes back, but not as long as a busy machine may need.
    fleet.until(
        lambda: fleet.run("service", "scale", "-d", f"{service}=5").code == 0, "changes are taken"
    )
    settled(fleet, service, 5)
    assert before.items() <= pids(fleet, service).items()


def test_a_killed_etcd_is_started_again_and_nothing_is_lost(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, "--replicas", "3", IMAGE)
    before = pids(fleet, service)
    os.kill(fleet.etcd(), signal.SIGKILL)
    fleet.until(
        lambda: fleet.run("service", "scale", "-d", f"{service}=4").code == 0, "changes are taken"
    )
    settled(fleet, service, 4)
    assert before.items() <= pids(fleet, service).items()


# The store hangs for longer than any lease, deadline or wait for a leader.
@pytest.mark.parametrize("seconds", [12.0, pytest.param(120.0, marks=NIGHTLY)])
def test_containers_go_on_while_etcd_is_away_and_users_are_told(
    fleet: Fleet, service: str, seconds: float
) -> None:
    quick = ("--restart-delay", "0s")
    fleet("service", "create", "--name", service, "--replicas", "3", *quick, IMAGE)
    before = pids(fleet, service)
    (victim, killed), *rest = before.items()
    etcd = fleet.etcd()
    os.kill(etcd, signal.SIGSTOP)
    try:
        end = time.monotonic() + seconds
        fleet.until(
            lambda: "the store is unreachable" in fleet.run("service", "ls").err, "it is said"
        )
        os.kill(killed, signal.SIGKILL)
        while time.monotonic() < end:
            error = fleet.refused("service", "scale", "-d", f"{service}=9")
            assert "the store is unreachable" in error
            assert len(error.splitlines()) == 1
            assert all(alive(pid) for _, pid in rest)
            time.sleep(1)
    finally:
        os.kill(etcd, signal.SIGCONT)
    fleet.until(lambda: fleet.run("service", "inspect", service).code == 0, "it is back")
    settled(fleet, service, 3)
    fleet("service", "scale", f"{service}=4")
    settled(fleet, service, 4)
    after = pids(fleet, service)
    assert victim not in after
    assert dict(rest).items() <= after.items()


def alive(pid: int) -> bool:
    """Whether there is such a process."""
    return os.path.exists(f"/proc/{pid}")  # noqa: PTH110


@pytest.mark.parametrize("kills", [15, pytest.param(150, marks=NIGHTLY)])
def test_random_kills_under_churn_end_in_exactly_what_was_requested(
    fleet: Fleet, service: str, kills: int
) -> None:
    chance = random.Random(7)
    fleet("service", "create", "--name", service, "--network", "app", "--replicas", "4", IMAGE)
    replicas = 4
    for _ in range(kills):
        victim = chance.choice(["host1", "host2", "host3", "controller"])
        fleet.kill(*(("host1", "controller") if victim == "controller" else (victim,)))
        replicas = chance.randint(2, 12)
        fleet.until(
            lambda n=replicas: fleet.run("service", "scale", "-d", f"{service}={n}").code == 0,  # type: ignore[misc]
            "the change is taken",
        )
        time.sleep(chance.random())
    settled(fleet, service, replicas)
