"""`inspect`: Docker's document of a container, and objects of any kind by name."""

import json

import pytest
from msgspec.structs import replace

from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.errors import NotFound
from pyswarm_core.states import TaskState
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.golden import assert_golden
from tests.unit.cli.objects import SERVICE_ID, node_view, service_reply
from tests.unit.cli.scripted import Script
from tests.unit.cli.test_containers import VIEW, answer_for, container, listed, reply


@pytest.fixture
def fleet(script: Script) -> Script:
    return answer_for(script)


PATHS = {
    "{{.State.Status}}": "running",
    "{{.State.Running}}": "true",
    "{{.State.ExitCode}}": "0",
    "{{.State.Pid}}": "77",
    "{{.NetworkSettings.IPAddress}}": "10.128.0.2",
    "{{.NetworkSettings.Networks.app.IPAddress}}": "10.128.0.2",
    '{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}': "8080",
    "{{.Config.Image}}": "postgres:15",
    "{{json .Config.Cmd}}": '["postgres","-c","a=b"]',
    "{{.Path}}": "postgres",
    "{{.HostConfig.Memory}}": str(1 << 30),
    "{{.HostConfig.MemorySwap}}": str(2 << 30),
    "{{.HostConfig.RestartPolicy.Name}}": "on-failure",
    "{{.HostConfig.NetworkMode}}": "app",
    "{{.Name}}": "/db",
    "{{.Node.Name}}": "host1",
    "{{json .Mounts}}": "[]",
}


@pytest.mark.parametrize("form", PATHS)
def test_inspect_answers_dockers_paths(form: str, fleet: Script, pyswarm: Pyswarm) -> None:
    for verb in (("inspect",), ("container", "inspect")):
        ran = pyswarm(*verb, "-f", form, "db")
        assert (ran.code, ran.out, ran.err) == (0, f"{PATHS[form]}\n", "")


def test_inspect_prints_dockers_document(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("GetContainer", reply(container(auto_remove=True), TaskState.FAILED))
    ran = pyswarm("inspect", "db")
    assert_golden("container_inspect", ran.out)
    (document,) = json.loads(ran.out)
    assert document["State"]["ExitCode"] == 3
    assert document["State"]["Error"] == ""


def test_inspect_shows_sizes_on_request(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("GetContainer", reply())
    fleet.on("ListContainers", listed(replace(VIEW, size_rw=5, size_root_fs=9)))
    form = "{{.SizeRw}} {{.SizeRootFs}}"
    assert pyswarm("inspect", "-s", "-f", form, "db").out == "5 9\n"
    (asked,) = fleet.requests("ListContainers")
    assert (asked.all, asked.size, list(asked.filters)) == (True, True, [f"id={SERVICE_ID}"])
    fleet.on("ListContainers", listed(replace(VIEW, size_rw=-1, size_root_fs=-1)))
    (document,) = json.loads(pyswarm("container", "inspect", "--size", "db").out)
    assert (document["SizeRw"], document["SizeRootFs"]) == (None, None)
    assert "SizeRw" not in json.loads(pyswarm("inspect", "db").out)[0]


def test_inspect_finds_any_kind_and_names_what_does_not_exist(
    fleet: Script, pyswarm: Pyswarm
) -> None:
    fleet.on("GetContainer", NotFound("No such container: x"))
    for rpc in ("GetNetwork", "GetNode", "GetObject"):
        fleet.on(rpc, NotFound("no such thing"))
    fleet.on("GetService", service_reply(), NotFound("no such service"))
    fleet.on("ListTasks", NotFound("no such task"))
    ran = pyswarm("inspect", "web", "nothing")
    assert [one["ID"] for one in json.loads(ran.out)] == [SERVICE_ID]
    assert (ran.code, ran.err) == (
        1,
        "Error: No such object: nothing: expected a container, network, node, service, task, user"
        " or image\n",
    )
    assert pyswarm("inspect", "--type", "network", "web").err == (
        "Error: No such network: web: `pyswarm network ls` lists all networks\n"
    )
    fleet.on("GetNode", pb.NodeReply(node=node_view()))
    assert pyswarm("inspect", "-f", "{{.Description.Hostname}}", "host1").out == "host1\n"


@pytest.mark.parametrize(
    "ref", ["web:1", "docker.io/library/web:1", "c" * 12, "sha256:" + "c" * 64]
)
def test_an_image_is_inspected_with_the_nodes_that_have_it(
    ref: str, fleet: Script, pyswarm: Pyswarm
) -> None:
    images = pb.ListImagesReply()
    for node in ("host2", "host1"):
        images.nodes.add(node_name=node).images.add(
            id="c" * 64, names=["docker.io/library/web:1"], digest="sha256:" + "d" * 64,
            size_bytes=7, created="2023-11-14T22:13:20Z",
        )  # fmt: skip
    fleet.on("ListImages", images)
    (document,) = json.loads(pyswarm("inspect", "--type", "image", ref).out)
    assert document == {
        "Id": "sha256:" + "c" * 64,
        "RepoTags": ["web:1"],
        "RepoDigests": ["web@sha256:" + "d" * 64],
        "Created": "2023-11-14T22:13:20Z",
        "Size": 7,
        "Nodes": ["host1", "host2"],
    }
    said = "Error: No such image: db: `pyswarm image ls` lists all images\n"
    assert pyswarm("inspect", "--type", "image", "db").err == said
