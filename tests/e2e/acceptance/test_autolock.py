"""A locked controller stops no container, and serves again once it has the unlock key."""

import re
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest

from controller.identity.keyring import LOCKED
from tests.e2e.acceptance.fleet import IMAGE, PATIENT, PYSWARM, Fleet

pytestmark = pytest.mark.slow

ENVIRONMENT = PATIENT


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """Its controller is locked."""
    return own_fleet


def unlock(fleet: Fleet, key: str) -> tuple[int, str]:
    """`pyswarm swarm unlock` with a key on standard input: exit code and error."""
    command = [str(PYSWARM), "swarm", "unlock"]
    done = subprocess.run(
        command,
        input=f"{key}\n",
        env=fleet.environment,
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
    assert unlock(fleet, key) == (0, "")
    fleet.until(
        lambda: fleet.run("service", "scale", "-d", f"{service}=4").code == 0, "changes are taken"
    )
    fleet.until(lambda: len(fleet.running(service)) == 4, "the fourth runs")
    assert set(tasks) < {task["ID"] for task in fleet.running(service)}
    assert pids(fleet, tasks) == before, "nothing was replaced"
    files = [path for path in fleet.state_dir.glob("**/encryption.key") if path.is_file()]
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600]
    fleet("swarm", "update", "--autolock=false")
    assert "no unlock key is set" in fleet.refused("swarm", "unlock-key")


def test_keys_of_encrypted_networks_are_in_no_file_of_a_disk(fleet: Fleet, service: str) -> None:
    name = f"{service}-closed"
    fleet("network", "create", "-d", "overlay", "--opt", "encrypted", name)
    every = ("--mode", "global", "--network", name)
    fleet("service", "create", "--name", service, *every, IMAGE)
    states = fleet.on("host1", "ip", "-o", "xfrm", "state").out
    keys = {bytes.fromhex(text) for text in re.findall(r"rfc4106\(gcm\(aes\)\) 0x(\w+)", states)}
    assert keys
    hidden = [form for key in keys for form in (key, key.hex().encode(), b64encode(key)[:-4])]
    disks = [
        path for path in fleet.state_dir.rglob("*") if path.is_file() and not path.is_symlink()
    ]
    assert any(path.name == "encryption.key" for path in disks)
    assert any(path.suffix == ".wal" for path in disks), "etcd's log is one of them"
    assert not [p for p in disks if any(form in p.read_bytes() for form in hidden)]
    plans = list(fleet.run_dir.glob("host*/overlays.json"))
    assert len(plans) == 3
    assert {path.stat().st_mode & 0o777 for path in plans} == {0o600}
    fleet("service", "rm", service)
    fleet.until(lambda: fleet.run("network", "rm", name).code == 0, "the network is removed")
