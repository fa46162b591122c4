"""Log drivers as users choose them, with containers that flood and agents that are killed."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e.acceptance.fleet import IMAGE, PATIENT, Fleet, playground

pytestmark = pytest.mark.slow

MIB = 1 << 20
UNREADABLE = "configured logging driver does not support reading"
FLOOD = "yes {line} | head -c {size}; echo; echo the end; sleep 1000"
COUNT = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; sleep 0.003; done; sleep 1000"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts, whose agents are killed."""
    with playground(tmp_path_factory.mktemp("home"), 2, **PATIENT) as found:
        yield found


@pytest.fixture
def name(fleet: Fleet, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a service or container, which is removed afterwards."""
    made = f"s{abs(hash(request.node.name)) % 10**8}"
    yield made
    fleet.run("service", "rm", made)
    fleet.run("rm", "-f", made)


def create(fleet: Fleet, name: str, options: list[str], script: str) -> str:
    """A service of one task that runs a shell script; the task's id."""
    fleet("service", "create", "--name", name, "--stop-grace-period", "1s", *options,
          "--entrypoint", "sh", IMAGE, "-c", script)  # fmt: skip
    (task,) = fleet.running(name)
    return task["ID"]


def used(fleet: Fleet, task_id: str) -> int:
    """The bytes of the files of a task's log."""
    sizes: dict[int, int] = {}
    for path in fleet.state_dir.glob(f"host*/logs/{task_id}*"):
        with suppress(FileNotFoundError):  # renamed meanwhile
            status = path.stat()
            sizes[status.st_ino] = status.st_size
    return sum(sizes.values())


def logs(fleet: Fleet, service: str, *words: str) -> list[str]:
    return fleet("service", "logs", "--raw", *words, service).splitlines()


@contextmanager
def receiving(path: Path) -> Iterator[list[bytes]]:
    """A syslog server at a socket that hosts see as well; the messages that it received."""
    received: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))

        def receive() -> None:
            while data := listening.recv(1 << 18):
                received.append(data)

        thread = threading.Thread(target=receive)
        thread.start()
        try:
            yield received
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    "size", [200 * MIB, pytest.param(1024 * MIB, marks=pytest.mark.nightly)], ids=["", "gibibyte"]
)
@pytest.mark.parametrize("harm", ["kill", "pause"])
def test_a_flood_keeps_the_limits_whatever_happens_to_the_agent(
    fleet: Fleet, name: str, harm: str, size: int
) -> None:
    options = ["--log-opt", "max-size=10m", "--log-opt", "max-file=3"]
    task_id = create(fleet, name, options, FLOOD.format(line="x" * 100, size=size))
    pid, most = fleet.pid(task_id), 0
    (task,) = fleet.running(name)
    agent = fleet.daemon(task["Node"])
    if harm == "pause":
        os.kill(agent, signal.SIGSTOP)
    fleet.until(lambda: used(fleet, task_id) >= 10 * MIB, "a file is full")
    if harm == "kill":
        fleet.kill(task["Node"])
    for _ in range(400):
        most = max(most, used(fleet, task_id))
        time.sleep(0.01)
    if harm == "pause":
        os.kill(agent, signal.SIGCONT)
    last = ("service", "logs", "--raw", "--tail", "1", name)
    # Fails while the node is disconnected.
    fleet.until(lambda: fleet.run(*last).out == "the end\n", "its last line is read")
    most = max(most, used(fleet, task_id))
    assert 10 * MIB <= most <= 4 * 10 * MIB
    assert fleet.pid(task_id) == pid
    lines = logs(fleet, name)
    # The first one may be the end of a line whose beginning was in a removed file; `head` cut the
    # last one.
    assert set(lines[1:-2]) == {"x" * 100}
    assert lines[-1] == "the end"


def test_syslog_gets_every_line_although_the_agent_is_killed(
    fleet: Fleet, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "syslog"
    options = ["--log-driver", "syslog", "--log-opt", f"syslog-address=unixgram://{path}",
               "--log-opt", "tag={{.Name}}", "--log-opt", "syslog-facility=local0"]  # fmt: skip
    with receiving(path) as received:
        task_id = create(fleet, name, options, COUNT)
        pid = fleet.pid(task_id)
        (task,) = fleet.running(name)
        for _ in range(3):
            seen = len(received)
            fleet.until(lambda n=seen: len(received) > n + 300, "it goes on")  # type: ignore[misc]
            fleet.kill(task["Node"])
        fleet.until(lambda: received[-1].endswith(b" 3000"), "all lines arrive")
        assert fleet.pid(task_id) == pid
    heads, texts = zip(*(message.split(b"]: ", 1) for message in received), strict=True)
    numbers = [int(text.split()[1]) for text in texts]
    assert numbers == sorted(numbers)
    assert sorted(set(numbers)) == list(range(1, 3001))
    assert len(numbers) <= 3003, "each kill repeats one message at most"
    assert all(head.startswith(b"<134>") for head in heads)
    assert all(f" {name}.1.{task_id}[".encode() in head for head in heads)
    # Its lines are stored as well, as with Docker's dual logging.
    assert logs(fleet, name, "--tail", "1") == ["line 3000"]


def test_output_that_is_not_stored_cannot_be_read(fleet: Fleet, name: str) -> None:
    done = fleet.run("run", "--name", name, "--log-driver", "none", "--entrypoint", "echo",
                     IMAGE, "shown")  # fmt: skip
    assert (done.code, done.out) == (0, "shown\n")
    assert UNREADABLE in fleet.refused("logs", name)
    assert UNREADABLE in fleet.refused("logs", "-f", name)
    form = "{{json .HostConfig.LogConfig}}"
    assert json.loads(fleet("inspect", name, "--format", form)) == {"Type": "none", "Config": {}}


def test_an_update_replaces_the_driver_and_the_tasks(fleet: Fleet, name: str) -> None:
    first = create(fleet, name, ["--log-driver", "none"], "echo here; sleep 1000")
    assert UNREADABLE in fleet.refused("service", "logs", name)
    fleet("service", "update", "--log-driver", "local", "--log-opt", "max-size=1m", name)
    form = "{{json .Spec.TaskTemplate.LogDriver}}"
    shown = json.loads(fleet("service", "inspect", name, "--format", form))
    assert shown == {"Name": "local", "Options": {"max-size": "1m"}}
    (task,) = fleet.running(name)
    assert task["ID"] != first
    fleet.until(lambda: logs(fleet, name) == ["here"], "its line is read")
    refused = fleet.refused("service", "update", "--log-driver", "splunk", name)
    assert "expected json-file, local, none, journald or syslog" in refused
    assert fleet.running(name)[0]["ID"] == task["ID"]
