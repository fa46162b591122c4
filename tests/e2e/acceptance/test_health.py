"""Health and readiness of real containers."""

import json
import shutil
from collections.abc import Iterator

import pytest

from tests.e2e.acceptance.fleet import IMAGE, Fleet
from tests.e2e.acceptance.web import PAGE, answers, ask_from, asking

CHECKED = "checked:1"
CHECK = "--interval=200ms --timeout=1s --retries=15 CMD [ -e /tmp/well ] || { echo sick; exit 1; }"


@pytest.fixture(scope="module", autouse=True)
def _image(fleet: Fleet) -> None:
    """The image with a HEALTHCHECK that succeeds while /tmp/well exists."""
    context = fleet.home / "checked"
    shutil.copytree(fleet.home / "image", context, symlinks=True)
    with (context / "Containerfile").open("a") as recipe:
        recipe.write(f"\nHEALTHCHECK {CHECK}\n")
    fleet("image", "build", "-q", "-t", CHECKED, str(context))


def create(fleet: Fleet, service: str, *command: str) -> None:
    fleet(
        "service", "create", "-d", "--name", service, "--network", "app", "--restart-delay", "1h",
        "--stop-grace-period", "1s", "--entrypoint", "sh", CHECKED, "-c", *command,
    )  # fmt: skip


def test_a_task_runs_once_it_is_healthy_and_fails_once_it_is_not(
    fleet: Fleet, service: str
) -> None:
    create(fleet, service, "sleep 1; touch /tmp/well; exec sleep 1000")
    fleet.until(lambda: fleet.tasks(service)[0]["CurrentState"].startswith("Starting"), "it starts")
    fleet.until(lambda: fleet.running(service), "it is healthy")
    (task,) = fleet.running(service)
    assert fleet.task(task["ID"])["Status"]["Message"] == "started"
    assert fleet.contained(task["ID"], "rm", "/tmp/well").code == 0
    fleet.until(lambda: fleet.error_of(service), "it is unhealthy")
    assert fleet.error_of(service) == "unhealthy: sick"


def test_a_task_that_never_becomes_healthy_fails_with_the_last_output(
    fleet: Fleet, service: str
) -> None:
    create(fleet, service, "exec sleep 1000")
    fleet.until(lambda: fleet.error_of(service), "it is unhealthy")
    assert fleet.error_of(service) == "unhealthy: sick"
    assert not fleet.running(service)


def test_a_starting_task_is_stopped_without_waiting_for_its_check(
    fleet: Fleet, service: str
) -> None:
    create(fleet, service, "trap 'exit 0' TERM; while :; do sleep 0.1; done")
    fleet("service", "rm", service)
    fleet.until(lambda: not fleet.containers(), "no container is left")


FAST = ("--health-interval", "300ms", "--health-retries", "2")


def test_checks_that_need_nothing_in_the_image(fleet: Fleet, service: str) -> None:
    page = PAGE.removeprefix("/")
    for flags in (("--health-http", f"80/{page}"), ("--health-tcp", "80")):
        fleet("service", "create", "--name", service, "--network", "app", *flags, *FAST, IMAGE)
        assert len(fleet.running(service)) == 1
        fleet("service", "rm", service)
    closed = ("--health-tcp", "81", "--restart-condition", "none", "--stop-grace-period", "1s")
    fleet("service", "create", "-d", "--name", service, "--network", "app", *closed, *FAST, IMAGE)
    fleet.until(lambda: fleet.error_of(service), "it is unhealthy")
    assert fleet.error_of(service) == "unhealthy: port 81: connection refused"


@pytest.fixture
def client(fleet: Fleet, service: str) -> Iterator[str]:
    """A task of another service, from which to ask."""
    name = f"{service}c"
    fleet("service", "create", "--name", name, "--network", "app", IMAGE)
    yield fleet.running(name)[0]["ID"]
    fleet("service", "rm", name)


def address_of(fleet: Fleet, service: str) -> str:
    """Its virtual address."""
    (found,) = json.loads(fleet("service", "inspect", service))
    address: str = found["Endpoint"]["VirtualIPs"][0]["Addr"]
    return address.partition("/")[0]


def test_no_request_to_an_unhealthy_task_is_lost(fleet: Fleet, service: str, client: str) -> None:
    fleet(
        "service", "create", "--name", service, "--network", "app", "--replicas", "3",
        "--health-cmd", "[ ! -e /tmp/sick ] || { echo sick; exit 1; }", *FAST,
        "--restart-delay", "1s", "--stop-grace-period", "2s", IMAGE,
    )  # fmt: skip
    address = address_of(fleet, service)
    answers(fleet, client, address, 80, 3)
    before = {task["ID"] for task in fleet.running(service)}
    sick = min(before)
    with asking(fleet, (client, address, 80), (client, address, 80)):
        assert fleet.contained(sick, "touch", "/tmp/sick").code == 0
        fleet.until(lambda: fleet.error_of(service) == "unhealthy: sick", "it is unhealthy")
        fleet.until(lambda: len(fleet.running(service)) == 3, "another task replaced it")
    assert {task["ID"] for task in fleet.running(service)} & before == before - {sick}


def test_a_task_receives_connections_while_it_is_ready(
    fleet: Fleet, service: str, client: str
) -> None:
    fleet(
        "service", "create", "--name", service, "--network", "app", "--replicas", "2", "-d",
        "--ready-cmd", "[ -e /tmp/ready ] || { echo busy; exit 1; }", "--ready-interval", "200ms",
        "--ready-retries", "1", IMAGE,
    )  # fmt: skip
    fleet.until(lambda: len(fleet.running(service)) == 2, "both run")
    tasks = [task["ID"] for task in fleet.running(service)]
    address = address_of(fleet, service)
    said = [fleet.task(task)["Status"]["Message"] for task in tasks]
    assert all(message.startswith("not ready: ") for message in said)
    assert ask_from(fleet, client, address) is None
    assert fleet.contained(tasks[0], "touch", "/tmp/ready").code == 0
    (first,) = {answer.hostname for answer in answers(fleet, client, address, 80, 1)}
    assert fleet.contained(tasks[1], "touch", "/tmp/ready").code == 0
    answers(fleet, client, address, 80, 2)
    with asking(fleet, (client, address, 80)):
        assert fleet.contained(tasks[0], "rm", "/tmp/ready").code == 0
        left = answers(fleet, client, address, 80, 1)
    assert first not in {answer.hostname for answer in left}
    assert fleet.task(tasks[0])["Status"]["Message"] == "not ready: busy"
    assert sorted(task["ID"] for task in fleet.running(service)) == sorted(tasks), "none restarted"


def test_results_signals_and_stops_come_from_the_tasks_host(fleet: Fleet, service: str) -> None:
    trapped = "trap 'touch /tmp/hup' HUP; trap 'exit 3' TERM; while :; do sleep 0.1; done"
    fleet(
        "service", "create", "--name", service, "--network", "app", "--restart-delay", "1h",
        "--health-cmd", "echo fine", *FAST, "--entrypoint", "sh", IMAGE, "-c", trapped,
    )  # fmt: skip
    (task,) = fleet.running(service)
    shown = fleet.task(task["ID"])["Status"]["Health"]
    assert (shown["Status"], shown["FailingStreak"]) == ("healthy", 0)
    assert {(one["ExitCode"], one["Output"]) for one in shown["Log"]} == {(0, "fine")}
    fleet("task", "signal", "-s", "HUP", task["ID"])
    heard = ("test", "-e", "/tmp/hup")
    fleet.until(lambda: fleet.contained(task["ID"], *heard).code == 0, "it has the signal")
    fleet("task", "stop", task["ID"])
    fleet.until(lambda: fleet.error_of(service), "it was stopped")
    ended = fleet.task(task["ID"])["Status"]
    assert (ended["State"], ended["Message"]) == ("failed", "stopped on request")
    assert ended["Err"] == "non-zero exit (3)"
    assert "does not run" in fleet.refused("task", "signal", "-s", "HUP", task["ID"])
