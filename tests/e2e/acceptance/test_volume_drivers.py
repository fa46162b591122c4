"""Volumes that are file systems of their own, on a real fleet."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from cli.daemons import entering
from tests.e2e.acceptance.fleet import IMAGE, PATIENT, ROOT, Fleet

ENVIRONMENT = PATIENT
HANG = """
import os, signal, sys
from pathlib import Path
from tests.fixtures.hung import serve
over = []
signal.signal(signal.SIGUSR1, lambda *_: over.append(1))
print("serves", flush=True)
serve(Path(sys.argv[1]), lambda: bool(over))
"""


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    return own_fleet


def shell(fleet: Fleet, name: str, mount: str, script: str, *flags: str) -> None:
    words = ("--stop-grace-period", "0s", *flags, "--entrypoint", "sh", IMAGE, "-c", script)
    fleet("service", "create", "--name", name, "--mount", mount, *words)


def mounted(fleet: Fleet, host: str, volume: str) -> bool:
    """Whether something is mounted at the volume on the host."""
    (found,) = json.loads(fleet("volume", "inspect", volume))
    return f"/{found['Mountpoint']} " in fleet.on(host, "cat", "/proc/self/mountinfo").out


def removed(fleet: Fleet, *names: str) -> None:
    """Remove the volumes, once no task has them."""
    fleet.until(lambda: fleet.run("volume", "rm", "-f", *names).code == 0, "nothing uses them")


@contextmanager
def served_on(fleet: Fleet, host: str, directory: str) -> Iterator[Callable[[], None]]:
    """A file system of the host; what has it hang."""
    fleet.on(host, "mkdir", "-p", directory)
    words = entering(Path(fleet.netns(host)), fleet.run_dir / host / "mount.namespace")
    process = subprocess.Popen(
        [*words, sys.executable, "-c", HANG, directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**fleet.environment, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"serves\n"
        fleet.until(lambda: answers(fleet, host, directory), "it is mounted")
        yield partial(process.send_signal, signal.SIGUSR1)
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()
        fleet.on(host, "rmdir", directory)


def answers(fleet: Fleet, host: str, directory: str) -> bool:
    """Whether the file system is mounted, and does not hang."""
    found = fleet.on(host, "timeout", "1", "stat", "--file-system", "--format=%l", directory)
    return found.out.strip() == "255" and "fuse.hang" in fleet.on(host, "cat", "/proc/mounts").out


def bound(directory: str) -> list[str]:
    """The flags of a volume that is a directory of its node."""
    return [
        word
        for option in ("type=none", "o=bind", f"device={directory}")
        for word in ("--opt", option)
    ]


def test_a_volume_with_a_size_is_full_for_its_program_alone(fleet: Fleet, service: str) -> None:
    fleet("volume", "create", "--opt", "size=16m", "sized")
    fill = "dd if=/dev/zero of=/data/large bs=1M count=32 2>/data/told; exec sleep 1000"
    shell(fleet, service, "source=sized,target=/data", fill)
    (task,) = fleet.running(service)
    host = task["Node"]

    def told() -> str:
        return fleet.contained(task["ID"], "cat", "/data/told").out

    fleet.until(lambda: "No space left on device" in told(), "its program is told")
    assert fleet.running(service) == [task]
    assert mounted(fleet, host, "sized")
    fleet.kill(host)
    fleet.until(lambda: fleet.daemon(host), "the agent is back")
    fleet("service", "update", "--env-add", "A=1", service)
    (row,) = [one for one in fleet.rows("volume", "ls") if one["Name"] == "sized"]
    assert row["UsedBy"] == service
    fleet.until(lambda: "MB" in fleet("volume", "ls", "--format", "{{.Size}}"), "it is measured")
    (found,) = json.loads(fleet("volume", "inspect", "sized"))
    assert 8_000_000 < found["UsageData"]["Size"] <= 16 << 20
    assert found["UsageData"]["RefCount"] == 1
    fleet("service", "rm", service)
    fleet.until(lambda: not mounted(fleet, host, "sized"), "it is unmounted")
    path = f"{fleet.state_dir}/{host}/volumes/{found['ID']}"
    assert fleet.on(host, "ls", f"{path}/image").code == 0
    removed(fleet, "sized")
    fleet.until(lambda: fleet.on(host, "ls", path).code, "its host has deleted it")


def test_a_file_system_that_hangs_delays_nothing_else(fleet: Fleet, service: str) -> None:
    host, directory = "host2", f"{fleet.state_dir}/hung"
    here = ("--constraint", f"node.hostname=={host}")
    other = f"{service}-other"
    with served_on(fleet, host, directory) as hang:
        hang()
        fleet.until(lambda: not answers(fleet, host, directory), "it hangs")
        fleet("volume", "create", *bound(directory), "stuck")
        alone = ("--detach", "--restart-condition", "none")
        shell(fleet, service, "source=stuck,target=/data", "exec sleep 1000", *here, *alone)
        shell(fleet, other, "source=plain,target=/data", "exec sleep 1000", *here)
        assert [task["Node"] for task in fleet.running(other)] == [host]
        told = "volume stuck: the file system has not answered for 20s"
        fleet.until(lambda: fleet.error_of(service) == told, "its task fails")
        old = fleet.daemon(host)
        fleet.kill(host)
        fleet.until(lambda: fleet.daemon(host) not in (0, old), "the agent is back")
        fleet("service", "update", "--env-add", "A=1", other)
        fleet("service", "rm", service, other)
        (found,) = json.loads(fleet("volume", "inspect", "stuck"))
        removed(fleet, "stuck", "plain")
        path = f"{fleet.state_dir}/{host}/volumes/{found['ID']}"
        fleet.until(lambda: fleet.on(host, "ls", path).code, "its host has unmounted it")


def test_a_task_whose_volume_begins_to_hang_can_be_stopped(fleet: Fleet, service: str) -> None:
    host, directory = "host3", f"{fleet.state_dir}/served"
    here = ("--constraint", f"node.hostname=={host}")
    with served_on(fleet, host, directory) as hang:
        fleet("volume", "create", *bound(directory), "served")
        mount = "source=served,target=/data,volume-nocopy"
        shell(fleet, service, mount, "while :; do ls /data; done", *here)
        (task,) = fleet.running(service)
        hang()
        fleet.until(lambda: not answers(fleet, host, directory), "it hangs")
        fleet("service", "rm", service)
        fleet.until(lambda: task["ID"] not in fleet.containers(), "its container is gone")
        removed(fleet, "served")
