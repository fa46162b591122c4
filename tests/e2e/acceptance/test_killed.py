"""Whoever is killed comes back, and what was asked for goes on running."""

import os
import random
import signal
import time

from tests.e2e.acceptance.fleet import IMAGE, Fleet

ETCD_AWAY_S = float(os.environ.get("PYSWARM_ETCD_AWAY_S", "20"))
"""How long the store hangs; a minute is as good as for ever."""


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
    fleet("service", "scale", f"{service}=5")
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


def test_containers_go_on_while_etcd_is_away_and_users_are_told(fleet: Fleet, service: str) -> None:
    quick = ("--restart-delay", "0s")
    fleet("service", "create", "--name", service, "--replicas", "3", *quick, IMAGE)
    before = pids(fleet, service)
    (victim, killed), *rest = before.items()
    etcd = fleet.etcd()
    os.kill(etcd, signal.SIGSTOP)
    try:
        end = time.monotonic() + ETCD_AWAY_S
        fleet.until(lambda: "the store is away" in fleet.run("service", "ls").err, "it is said")
        os.kill(killed, signal.SIGKILL)
        while time.monotonic() < end:
            error = fleet.refused("service", "scale", "-d", f"{service}=9")
            assert "the store is away" in error
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


def test_a_lost_hosts_replicas_run_elsewhere_and_it_returns_empty(
    fleet: Fleet, service: str
) -> None:
    fleet("service", "create", "--name", service, "--network", "app", "--replicas", "6", IMAGE)
    fleet("playground", "kill", "host3")
    fleet.until(
        lambda: (
            [task["Node"] for task in fleet.running(service)].count("host3") == 0
            and len(fleet.running(service)) == 6
        ),
        "six run on the others",
    )
    fleet("playground", "heal", "host3")
    fleet.until(
        lambda: {row["Status"] for row in fleet.rows("node", "ls")} == {"Ready"}, "host3 is back"
    )
    settled(fleet, service, 6)


def test_a_host_that_was_cut_off_gives_up_what_runs_elsewhere(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, "--replicas", "6", IMAGE)
    fleet("playground", "cut", "host2")
    fleet.until(
        lambda: (
            "host2" not in {task["Node"] for task in fleet.running(service)}
            and len(fleet.running(service)) == 6
        ),
        "six run on the others",
    )
    fleet("playground", "heal", "host2")
    settled(fleet, service, 6)


def test_random_kills_under_churn_end_in_exactly_what_was_asked_for(
    fleet: Fleet, service: str
) -> None:
    chance = random.Random(7)
    fleet("service", "create", "--name", service, "--network", "app", "--replicas", "4", IMAGE)
    end = time.monotonic() + 15
    wanted = 4
    while time.monotonic() < end:
        victim = chance.choice(["host1", "host2", "host3", "controller"])
        fleet.kill(*(("host1", "controller") if victim == "controller" else (victim,)))
        wanted = chance.randint(2, 12)
        fleet.until(
            lambda n=wanted: fleet.run("service", "scale", "-d", f"{service}={n}").code == 0,  # type: ignore[misc]
            "the change is taken",
        )
        time.sleep(chance.random())
    settled(fleet, service, wanted)
