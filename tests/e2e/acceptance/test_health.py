"""Health and readiness of real containers."""

import json
import shutil
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse

from agent.health import http2
from tests.e2e.acceptance.fleet import IMAGE, Fleet
from tests.e2e.acceptance.web import PAGE, answers, ask_from, asking

CHECKED = "checked:1"
CHECK = "--interval=200ms --timeout=60s --retries=15 CMD [ -e /tmp/well ] || { echo sick; exit 1; }"


@pytest.fixture(scope="module", autouse=True)
def _image(fleet: Fleet) -> None:
    """The image with a HEALTHCHECK that succeeds while /tmp/well exists."""
    context = fleet.home / "checked"
    shutil.copytree(fleet.home / "image", context, symlinks=True)
    with (context / "Containerfile").open("a") as recipe:
        recipe.write(f"\nHEALTHCHECK {CHECK}\n")
    fleet("image", "build", "-q", "-t", CHECKED, str(context))


SPEAKER = "speaker:1"
GRPC_PORT = 50051
SERVE = f"""
httpd -p 80 -h /www
cp /serving /tmp/answer
trap 'exit 0' TERM
while :; do
    until [ -e /tmp/open ]; do sleep 0.1; done
    httpd -f -p 81 -h /www & web=$!
    nc -ll -p {GRPC_PORT} -e /bin/sh /answer & grpc=$!
    while [ -e /tmp/open ]; do sleep 0.1; done
    kill $web $grpc
done
"""
"""Serves the page on port 80 always; on port 81 and, with gRPC, on 50051 while /tmp/open exists."""
ANSWER = f"""
head -c {len(http2.request("localhost", ""))} >/dev/null
cat /tmp/answer
exec cat >/dev/null
"""
"""For one connection."""


@pytest.fixture(scope="module")
def speaker(fleet: Fleet) -> str:
    """The image that runs SERVE. To a gRPC check it says what a real server said, word by word."""
    context = fleet.home / "speaker"
    shutil.copytree(fleet.home / "image", context, symlinks=True)
    root = context / "rootfs"
    (root / "serve").write_text(SERVE)
    (root / "answer").write_text(ANSWER)
    (root / "serving").write_bytes(recorded(HealthCheckResponse.SERVING))
    (root / "not-serving").write_bytes(recorded(HealthCheckResponse.NOT_SERVING))
    fleet("image", "build", "-q", "-t", SPEAKER, str(context))
    return SPEAKER


def recorded(status: int) -> bytes:
    """What the health service of a gRPC server sends to a check."""
    server = grpc.server(ThreadPoolExecutor(1))
    servicer = health.HealthServicer()
    servicer.set("", status)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    said, answer = b"", http2.Answer()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(http2.request("localhost", ""))
            while answer.status is None:
                found = connection.recv(http2.FRAME_MAX)
                assert found, "the server closed the connection"
                said += found
                connection.sendall(answer.feed(found))
    finally:
        server.stop(None).wait()
    return said


PATIENTLY = ("--health-start-period", "10m", "--health-start-interval", "200ms")


def create(fleet: Fleet, service: str, *command: str, flags: Sequence[str] = ()) -> None:
    fleet(
        "service", "create", "-d", "--name", service, "--network", "app", "--restart-delay", "1h",
        *flags,
        "--stop-grace-period", "1s", "--entrypoint", "sh", CHECKED, "-c", *command,
    )  # fmt: skip


def test_a_task_runs_once_it_is_healthy_and_fails_once_it_is_not(
    fleet: Fleet, service: str
) -> None:
    create(fleet, service, "exec sleep 1000", flags=PATIENTLY)
    fleet.until(lambda: fleet.tasks(service)[0]["CurrentState"].startswith("Starting"), "it starts")
    starting = fleet.tasks(service)[0]["ID"]
    well = ("touch", "/tmp/well")
    fleet.until(lambda: fleet.contained(starting, *well).code == 0, "its container runs")
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
        words = ("service", "create", "--name", service, "--network", "app", *flags)
        fleet(*words, *PATIENTLY, *FAST, IMAGE)
        assert len(fleet.running(service)) == 1
        fleet("service", "rm", service)
    closed = ("--health-tcp", "81", "--restart-condition", "none", "--stop-grace-period", "1s")
    fleet("service", "create", "-d", "--name", service, "--network", "app", *closed, *FAST, IMAGE)
    fleet.until(lambda: fleet.error_of(service), "it is unhealthy")
    assert fleet.error_of(service) == "unhealthy: port 81: connection refused"


def test_a_grpc_check_follows_what_the_server_answers(
    fleet: Fleet, service: str, speaker: str
) -> None:
    fleet(
        "service", "create", "--name", service, "--network", "app", "--health-grpc", str(GRPC_PORT),
        "--health-interval", "300ms", "--health-retries", "5", "--restart-delay", "0s",
        "--entrypoint", "sh", speaker, "-c", "touch /tmp/open; . /serve",
    )  # fmt: skip
    (first,) = fleet.running(service)
    assert fleet.task(first["ID"])["Status"]["Health"]["Log"][-1]["Output"] == "SERVING"
    assert fleet.contained(first["ID"], "cp", "/not-serving", "/tmp/answer").code == 0
    fleet.until(lambda: fleet.error_of(service), "it is unhealthy")
    assert fleet.error_of(service) == "unhealthy: NOT_SERVING"
    fleet.until(lambda: fleet.running(service), "another task replaced it")
    (second,) = fleet.running(service)
    assert second["ID"] != first["ID"]
    assert fleet.task(second["ID"])["Status"]["Health"]["Status"] == "healthy"


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


@pytest.mark.parametrize(
    ("kind", "where"), [("http", "81/healthy"), ("tcp", "81"), ("grpc", str(GRPC_PORT))]
)
def test_readiness_checks_that_need_nothing_in_the_image(
    fleet: Fleet, service: str, client: str, speaker: str, kind: str, where: str
) -> None:
    fleet(
        "service", "create", "-d", "--name", service, "--network", "app",
        f"--ready-{kind}", where, "--ready-interval", "200ms", "--ready-retries", "1",
        "--entrypoint", "sh", speaker, "/serve",
    )  # fmt: skip
    closed = f"not ready: port {where.partition('/')[0]}: connection refused"
    address = address_of(fleet, service)
    fleet.until(lambda: fleet.running(service), "it runs")
    (task,) = (row["ID"] for row in fleet.running(service))
    fleet.until(lambda: message_of(fleet, task) == closed, "its check fails")
    assert ask_from(fleet, client, address) is None
    assert fleet.contained(task, "touch", "/tmp/open").code == 0
    answers(fleet, client, address, 80, 1)
    assert fleet.contained(task, "rm", "/tmp/open").code == 0
    fleet.until(lambda: ask_from(fleet, client, address) is None, "it receives no connections")
    assert message_of(fleet, task) == closed
    assert [row["ID"] for row in fleet.running(service)] == [task], "it was not restarted"


def message_of(fleet: Fleet, task: str) -> str:
    """What is said of its state."""
    message: str = fleet.task(task)["Status"]["Message"]
    return message


def test_results_signals_and_stops_come_from_the_tasks_host(fleet: Fleet, service: str) -> None:
    traps = "trap 'touch /tmp/hup' HUP; trap 'exit 3' TERM; touch /tmp/traps"
    trapped = f"{traps}; while :; do sleep 0.1; done"
    fleet(
        "service", "create", "--name", service, "--network", "app", "--restart-delay", "1h",
        "--health-cmd", "echo fine", *FAST, "--entrypoint", "sh", IMAGE, "-c", trapped,
    )  # fmt: skip
    (task,) = fleet.running(service)
    shown = fleet.task(task["ID"])["Status"]["Health"]
    assert (shown["Status"], shown["FailingStreak"]) == ("healthy", 0)
    assert {(one["ExitCode"], one["Output"]) for one in shown["Log"]} == {(0, "fine")}
    set_up = ("test", "-e", "/tmp/traps")
    fleet.until(lambda: fleet.contained(task["ID"], *set_up).code == 0, "it traps both")
    fleet("task", "signal", "-s", "HUP", task["ID"])
    heard = ("test", "-e", "/tmp/hup")
    fleet.until(lambda: fleet.contained(task["ID"], *heard).code == 0, "it has the signal")
    fleet("task", "stop", task["ID"])
    fleet.until(lambda: fleet.error_of(service), "it was stopped")
    ended = fleet.task(task["ID"])["Status"]
    assert (ended["State"], ended["Message"]) == ("failed", "stopped on request")
    assert ended["Err"] == "non-zero exit (3)"
    assert "does not run" in fleet.refused("task", "signal", "-s", "HUP", task["ID"])
