"""Our spec in the words of Docker's API, and its tasks in ours."""

from typing import Any

from bench.fleet import published, service
from bench.peer import wording
from bench.system import Replica

IMAGES = {"bench-pause:1": "sha256:a", "web:1": "sha256:b"}
NETWORKS = {"app": "net1"}


def worded(spec: Any) -> dict[str, Any]:
    return wording.service(spec, IMAGES, NETWORKS, "vip")


def test_a_service_asks_for_the_same() -> None:
    said = worded(service("many", 50, host="host2", restart_delay=7))
    template = said["TaskTemplate"]
    assert said["Name"] == "many"
    assert said["Mode"] == {"Replicated": {"Replicas": 50}}
    assert template["ContainerSpec"]["Image"] == "sha256:a"
    assert template["Resources"]["Limits"] == {
        "NanoCPUs": 500_000_000, "MemoryBytes": 64 << 20, "Pids": 100,
    }  # fmt: skip
    assert template["RestartPolicy"]["Delay"] == 7
    assert template["Placement"] == {"Constraints": ["node.hostname==host2"]}
    assert template["Networks"] == [{"Target": "net1"}]
    assert said["EndpointSpec"] == {"Mode": "vip", "Ports": []}
    assert said["UpdateConfig"] == {
        "Parallelism": 1, "Delay": 0, "FailureAction": "pause", "Monitor": 5_000_000_000,
        "MaxFailureRatio": 0.0, "Order": "stop-first",
    }  # fmt: skip


def test_a_published_port_answers_on_every_host() -> None:
    said = worded(published(service("web", 2), "web:1", 8080))
    assert said["TaskTemplate"]["ContainerSpec"]["Image"] == "sha256:b"
    (port,) = said["EndpointSpec"]["Ports"]
    assert (port["TargetPort"], port["PublishedPort"]) == (80, 8080)
    assert port["PublishMode"] == "ingress"


def task(state: str, desired: str = "running") -> dict[str, Any]:
    return {
        "ID": f"{state}-{desired}",
        "Slot": 3,
        "NodeID": "n1",
        "DesiredState": desired,
        "Status": {"State": state, "ContainerStatus": {"PID": 42}},
        "NetworksAttachments": [
            {"Network": {"ID": "ingress"}, "Addresses": ["10.0.0.9/24"]},
            {"Network": {"ID": "net1"}, "Addresses": ["10.0.1.5/24"]},
        ],
    }


def test_only_what_runs_and_should_is_a_replica() -> None:
    tasks = [task("running"), task("running", "shutdown"), task("failed", "shutdown")]
    assert wording.replicas(tasks, {"n1": "host1"}, "net1") == [
        Replica(slot=3, task="running-running", pid=42, host="host1", address="10.0.1.5")
    ]
