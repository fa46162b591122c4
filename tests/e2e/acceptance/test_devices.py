"""Resources that users define, and devices that files of a host describe."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.acceptance.fleet import IMAGE, Fleet
from tests.fixtures import leaks

CDI = Path("/etc/cdi")


def test_a_task_has_its_gpus_alone(fleet: Fleet, service: str) -> None:
    reserve = ("--generic-resource", "gpu=2", "--restart-delay", "0s")
    fleet("service", "create", "--name", service, "--replicas", "3", *reserve, IMAGE)
    for task in fleet.running(service):
        assert "DOCKER_RESOURCE_GPU=a,b" in fleet("exec", task["ID"], "env")
    node = fleet("node", "inspect", "--pretty", "host1")
    assert "2 (a, b), 2 reserved" in node
    fleet("service", "scale", "--detach", f"{service}=4")
    fleet.until(lambda: "lack gpu" in fleet("why", service), "the fourth waits for GPUs")
    told = fleet("why", service)
    assert "3 of 3 nodes lack gpu (needs 2, most free is 0 on host" in told
    assert "--node-generic-resource gpu=NUMBER" in told
    fleet(
        "service", "update", "--generic-resource-add", "gpu=1", "--update-parallelism", "0", service
    )
    assert len(fleet.running(service)) == 4
    shown = fleet("service", "inspect", service)
    assert json.loads(shown)[0]["Spec"]["TaskTemplate"]["Resources"]["Reservations"] == {
        "GenericResources": [{"DiscreteResourceSpec": {"Kind": "gpu", "Value": 1}}]
    }


@pytest.fixture
def vendor() -> Iterator[str]:
    """A vendor whose device 0 a file of the hosts describes: they share this machine's files."""
    name = f"v{leaks.run_name()}.test"
    made = not CDI.exists()
    CDI.mkdir(exist_ok=True)
    file = CDI / f"{name}.json"
    node = {"path": "/dev/blank", "hostPath": "/dev/zero"}
    mount = {"hostPath": "/etc/debian_version", "containerPath": "/driver"}
    edits = {"env": ["DRIVER=/driver"], "deviceNodes": [node], "mounts": [mount]}
    device = {"name": "0", "containerEdits": edits}
    file.write_text(json.dumps({"cdiVersion": "0.6.0", "kind": f"{name}/gpu", "devices": [device]}))
    yield name
    file.unlink()
    if made:
        CDI.rmdir()


def test_a_container_gets_what_a_cdi_file_says(fleet: Fleet, vendor: str) -> None:
    script = "echo $DRIVER; head -c 2 /dev/blank | wc -c; cat /driver"
    run = ("run", "--rm", "--entrypoint", "sh")
    out = fleet(*run, "--device", f"{vendor}/gpu=0", IMAGE, "-c", script)
    assert out.split() == ["/driver", "2", Path("/etc/debian_version").read_text().strip()]
    refused = fleet.run(*run, "--device", f"{vendor}/gpu=1", IMAGE, "-c", "true")
    assert f"device {vendor}/gpu=1: no CDI file in /etc/cdi and /var/run/cdi" in refused.err
    refused = fleet.run(*run, "--gpus", "all", IMAGE, "-c", "true")
    assert "device nvidia.com/gpu=all: no CDI file" in refused.err
