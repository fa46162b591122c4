"""A locked controller stops no container, and serves again once it has the unlock key."""

import re
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest

from controller.identity.keyring import LOCKED
from tests.e2e.acceptance.fleet import IMAGE, PATIENT, PYSWARM, ROOT, Fleet

pytestmark = pytest.mark.slow

ENVIRONMENT = PATIENT


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """Its controller is locked."""
    return own_fleet


def unlock(fleet: Fleet, key: str) -> tuple[int, str]:
    """`pyswarm swarm unlock` with a key on standard input: exit code and error."""
    command = [str(PYSWARM), "swarm", "unlock"]
    environment = {**fleet.environment, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command,
        input=f"{key}\n",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


def pids(fleet: Fleet, tasks: list[str]) -> list[int]:
    return [fleet.pid(task) for task in tasks]


def test_containers_run_on_while_the_controller_is_locked(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, "--network", "app", "--replicas", "3", IMAGE)
    tasks = sorted(task["ID"] for task in fleet.running(service))
    before = pids(fleet, tasks)
    told = fleet("swarm", "update", "--autolock")
    key = re.findall(r"SWMKEY-1-\S+", told)[0]
    assert told.startswith("Swarm updated.\nTo unlock a swarm manager after it restarts")
    assert fleet("swarm", "unlock-key", "-q") == key
    assert fleet("swarm", "info", "--format", "{{.Cluster.Spec.Autolock}}") == "true"
    fleet.kill("host1", "controller")
    fleet.until(lambda: LOCKED in fleet.run("service", "ls").err, "it is locked")
    assert LOCKED in fleet.refused("service", "scale", "-d", f"{service}=4")
    assert LOCKED in fleet.refused("swarm", "info")
    code, error = unlock(fleet, "SWMKEY-1-" + b64encode(bytes(32)).decode().rstrip("="))
    assert code == 2
    assert "invalid key" in error
    assert all(Path(f"/proc/{pid}").exists() for pid in before)
    code, error = unlock(fleet, key)
    assert code == 0, error
    fleet("service", "scale", "-d", f"{service}=4")
    fleet.until(lambda: len(fleet.running(service)) == 4, "the fourth runs")
    assert set(tasks) < {task["ID"] for task in fleet.running(service)}
    assert pids(fleet, tasks) == before, "nothing was replaced"
    files = [path for path in fleet.state_dir.glob("**/encryption.key") if path.is_file()]
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600]
    fleet("swarm", "update", "--autolock=false")
    assert "no unlock key is set" in fleet.refused("swarm", "unlock-key")
