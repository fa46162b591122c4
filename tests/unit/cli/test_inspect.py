"""`inspect`: Docker's document of a container, and objects of any kind by name."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from cli.container.inspect import TYPES
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import images_pb2
from pyswarm_core.errors import NotFound
from pyswarm_core.kinds import KINDS, encode, kind_of
from pyswarm_core.states import TaskState
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.golden import assert_golden
from tests.unit.cli.objects import SERVICE_ID, node_view, service_reply
from tests.unit.cli.scripted import Script
from tests.unit.cli.test_containers import VIEW, answer_for, container, listed, reply
from tests.unit.cli.test_payload_verbs import made
from tests.unit.cli.test_volumes import DATA


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


def test_inspect_shows_the_volumes_that_the_image_made(fleet: Script, pyswarm: Pyswarm) -> None:
    answer: Any = reply(container())
    answer.task.task.detail.image_volumes = "/data '/with space'"
    fleet.on("GetContainer", answer)
    mounts = json.loads(pyswarm("inspect", "-f", "{{json .Mounts}}", "db").out)
    assert [mount["Destination"] for mount in mounts] == ["/data", "/with space"]
    assert mounts[0] == {
        "Type": "volume",
        "Name": "",
        "Source": "",
        "Destination": "/data",
        "Driver": "local",
        "Mode": "",
        "RW": True,
        "Propagation": "",
    }
    answer.task.task.detail.image_volumes = "'/half"
    assert pyswarm("inspect", "-f", "{{json .Mounts}}", "db").out == "[]\n"


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
    for rpc in ("GetNetwork", "GetNode", "GetObject", "InspectImage"):
        fleet.on(rpc, NotFound("no such thing"))
    fleet.on("GetService", service_reply(), NotFound("no such service"))
    fleet.on("ListTasks", NotFound("no such task"))
    ran = pyswarm("inspect", "web", "nothing")
    assert [one["ID"] for one in json.loads(ran.out)] == [SERVICE_ID]
    assert (ran.code, ran.err) == (
        1,
        "Error: No such object: nothing: expected a container, network, volume, node, service,"
        " task, secret, config, user, stack or image\n",
    )
    assert pyswarm("inspect", "--type", "network", "web").err == (
        "Error: No such network: web: `pyswarm network ls` lists all networks\n"
    )
    fleet.on("GetNode", pb.NodeReply(node=node_view()))
    assert pyswarm("inspect", "-f", "{{.Description.Hostname}}", "host1").out == "host1\n"


def test_inspect_knows_every_kind_of_objects() -> None:
    assert set(TYPES) == {*KINDS, "container", "task", "image"}


@pytest.mark.parametrize("item", [DATA, made("secret", "db"), made("config", "db", data=b"x")])
def test_inspect_shows_volumes_secrets_and_configs_as_their_own_verb_does(
    item: Any, fleet: Script, pyswarm: Pyswarm
) -> None:
    fleet.on("ListNodes", [pb.ListNodesReply(nodes=[node_view()])])
    fleet.on("ListObjects", [pb.ListObjectsReply()])
    for rpc in ("GetContainer", "GetNetwork", "GetNode", "GetService", "ListTasks"):
        fleet.on(rpc, NotFound("no such thing"))
    kind = kind_of(item).name

    def found(request: Any) -> pb.EncodedObject | NotFound:
        is_it = request.kind == kind
        return pb.EncodedObject(value=encode(item)) if is_it else NotFound("no such thing")

    fleet.on("GetObject", found)
    shown = pyswarm("inspect", item.spec.name)
    assert (shown.code, shown.err) == (0, "")
    assert shown.out == pyswarm(kind, "inspect", item.spec.name).out
    form = ("-f", "{{.CreatedAt}}", item.spec.name)
    assert pyswarm("inspect", "--type", kind, *form).out == pyswarm(kind, "inspect", *form).out


@pytest.mark.parametrize(
    "ref", ["web:1", "docker.io/library/web:1", "c" * 12, "sha256:" + "c" * 64]
)
def test_an_image_is_inspected_with_the_nodes_that_have_it(
    ref: str, fleet: Script, pyswarm: Pyswarm
) -> None:
    config = {
        "created": "2023-11-14T22:13:20Z",
        "architecture": "arm64",
        "variant": "v8",
        "os": "linux",
        "author": "ann",
        "config": {"Env": ["A=1"], "Cmd": ["/web"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "e" * 64]},
        "history": [{"comment": "built"}],
    }
    reply = images_pb2.InspectImageReply(
        id="c" * 64, names=["docker.io/library/web:1"], digest="sha256:" + "d" * 64,
        size_bytes=7, nodes=["host1", "host2"], services=["web"],
    )  # fmt: skip
    reply.details.config = json.dumps(config).encode()
    fleet.on("InspectImage", reply)
    (document,) = json.loads(pyswarm("image", "inspect", ref).out)
    assert fleet.requests("InspectImage")[0].ref == ref
    assert document == {
        "Id": "sha256:" + "c" * 64,
        "RepoTags": ["web:1"],
        "RepoDigests": ["web@sha256:" + "d" * 64],
        "Parent": "",
        "Comment": "built",
        "Created": "2023-11-14T22:13:20Z",
        "DockerVersion": "",
        "Author": "ann",
        "Config": {"Env": ["A=1"], "Cmd": ["/web"]},
        "Architecture": "arm64",
        "Variant": "v8",
        "Os": "linux",
        "Size": 7,
        "GraphDriver": {"Data": None, "Name": "overlay"},
        "RootFS": {"Type": "layers", "Layers": ["sha256:" + "e" * 64]},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
        "Nodes": ["host1", "host2"],
        "Services": ["web"],
    }
    assert pyswarm("inspect", "-f", "{{.Config.Env}}", "--type", "image", ref).out == "[A=1]\n"


def test_an_image_that_no_node_has_is_named(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("InspectImage", NotFound("No such image: db"))
    said = "Error: No such image: db: `pyswarm image ls` lists all images\n"
    assert pyswarm("inspect", "--type", "image", "db").err == said


@pytest.mark.parametrize("config", [b"", b"{", b"[]", b'{"history": 5, "config": []}', b"\xff"])
def test_a_configuration_of_other_types_is_shown_as_if_it_were_absent(
    config: bytes, fleet: Script, pyswarm: Pyswarm
) -> None:
    reply = images_pb2.InspectImageReply(id="c" * 64)
    reply.details.config = config
    fleet.on("InspectImage", reply)
    (document,) = json.loads(pyswarm("image", "inspect", "web").out)
    assert (document["Config"], document["RootFS"]["Layers"]) == ({}, [])
    assert pyswarm("image", "history", "-q", "web").out == ""
