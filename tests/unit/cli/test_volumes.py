"""The verbs of volumes, and mounts in the flags of services and containers."""

import io
import json
from typing import Any

import pytest
from msgspec.structs import replace

from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.codec import from_proto
from pyswarm_core.errors import Conflict, NotFound
from pyswarm_core.ids import NodeId
from pyswarm_core.kinds import encode
from pyswarm_core.objects import Object, Service
from pyswarm_core.specs import GlobalMode, ReplicatedMode, ServiceMode, ServiceSpec
from pyswarm_core.volumes.mounts import Mount, MountType
from pyswarm_core.volumes.volume import (
    ANONYMOUS,
    Volume,
    VolumeId,
    VolumePlacement,
    VolumeSpec,
    VolumeUsage,
)
from tests.fixtures import build
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import CREATED, NODE_ID, node_view, service, service_reply
from tests.unit.cli.scripted import Script

DATA = Volume(
    id=VolumeId("v" * 25),
    spec=VolumeSpec(name="data", labels={"team": "db"}),
    created_at=CREATED,
    copies=(NodeId(NODE_ID), NodeId("gone" * 6)),
)
UNNAMED = replace(
    DATA, id=VolumeId("u" * 25), spec=VolumeSpec(name="f" * 64, labels={ANONYMOUS: ""}), copies=()
)


USAGE = VolumeUsage(
    node_id=NodeId(NODE_ID), bytes=4_270_000, inodes=12, measured_at=CREATED, last_used_at=CREATED
)
SERVICES = [
    replace(one, spec=build.with_mount(one.spec, "data"))
    for one in map(build.service, ("web", "db", "api", "logs"))
]


def reply(*volumes: Object) -> pb.ListObjectsReply:
    return pb.ListObjectsReply(objects=[pb.EncodedObject(value=encode(one)) for one in volumes])


@pytest.fixture
def fleet(script: Script) -> Script:
    script.on("ListNodes", [pb.ListNodesReply(nodes=[node_view()])])

    def listed(request: Any) -> list[pb.ListObjectsReply]:
        return [reply(*SERVICES) if request.kind == "service" else reply(DATA, UNNAMED)]

    script.on("ListObjects", listed).on("RemoveObject", pb.RemoveObjectReply())
    script.on("CreateVolume", pb.EncodedObject(value=encode(DATA)))
    return script


def test_create_prints_the_name(fleet: Script, pyswarm: Pyswarm) -> None:
    ran = pyswarm("volume", "create", "--label", "team=db", "--placement", "any", "data")
    assert (ran.code, ran.out) == (0, "data\n")
    (request,) = fleet.requests("CreateVolume")
    assert from_proto(VolumeSpec, request.spec) == VolumeSpec(
        name="data", labels={"team": "db"}, placement=VolumePlacement.ANY
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("../x",), 'volume name "../x" is not valid: it includes invalid characters'),
        (("-d", "rexray", "data"), "value \"rexray\" is not valid: expected one of local"),
        (("-d", "nfs"), '--opt: missing required option "share": expected share=HOST:/path'),
        (("-o", "type=nfs", "data"), 'missing required option "device": expected one beside type'),
        (("-o", "size=1k", "data"), 'option "size=1k" is not valid: expected 16m to 8t'),
        (("--placement", "all", "data"), "expected one of pinned, any"),
    ],
)  # fmt: skip
def test_create_refuses_what_is_not_built(
    fleet: Script, pyswarm: Pyswarm, words: tuple[str, ...], told: str
) -> None:
    ran = pyswarm("volume", "create", *words)
    assert ran.code == 2
    assert told in ran.err
    assert not fleet.requests("CreateVolume")


def test_ls_has_dockers_columns_and_the_nodes(fleet: Script, pyswarm: Pyswarm) -> None:
    lines = pyswarm("volume", "ls").out.splitlines()
    columns = "DRIVER VOLUME NAME NODE STATE SIZE USED BY LAST USED"
    assert lines[0].split() == columns.split()
    words = ["local", "data", f"{node_view_name()},gonegonegone", "ready", "N/A"]
    assert lines[1].split() == [*words, "api,", "db,", "logs", "and", "1", "more"]
    assert pyswarm("volume", "ls", "-q").out == f"data\n{'f' * 64}\n"
    (line, _) = pyswarm("volume", "ls", "--format", "json").out.splitlines()
    assert json.loads(line)["Labels"] == "team=db"
    pyswarm("volume", "ls", "-f", "dangling=true")
    assert ["dangling=true"] in [one.filters for one in fleet.requests("ListObjects")]


@pytest.mark.parametrize(
    ("mode", "template", "used"),
    [
        (ReplicatedMode(replicas=2), "db-{{.Task.Slot}}", ["db-1", "db-2"]),
        (ReplicatedMode(replicas=2), "{{.Service.Name}}-all", ["db-all"]),
        (GlobalMode(), "db-{{.Node.Hostname}}", [f"db-{node_view().node.description.hostname}"]),
    ],
)
def test_a_service_uses_the_volumes_of_its_slots(
    script: Script, pyswarm: Pyswarm, mode: ServiceMode, template: str, used: list[str]
) -> None:
    db = build.service("db")
    db = replace(db, spec=replace(build.with_mount(db.spec, template), mode=mode))
    others = ["db-3", "db-0", "db-host", "db-all-2", "db-{{.Task.Slot}}"]
    volumes = [replace(DATA, spec=VolumeSpec(name=name)) for name in (*used, *others)]

    def listed(request: Any) -> list[pb.ListObjectsReply]:
        return [reply(db) if request.kind == "service" else reply(*volumes)]

    script.on("ListNodes", [pb.ListNodesReply(nodes=[node_view()])]).on("ListObjects", listed)
    lines = pyswarm("volume", "ls", "--format", "{{.Name}}={{.UsedBy}}").out.splitlines()
    assert sorted(line for line in lines if line.endswith("=db")) == [f"{one}=db" for one in used]
    assert len(lines) == len(volumes)


def test_ls_and_inspect_show_what_was_measured(fleet: Script, pyswarm: Pyswarm) -> None:
    data = replace(DATA, usage=(USAGE,))
    fleet.on("ListObjects", [reply(data)], [reply(*SERVICES)])
    fleet.on("GetObject", pb.EncodedObject(value=encode(data)))
    line = pyswarm("volume", "ls", "--format", "{{.Name}} {{.Size}} {{.Links}} {{.LastUsed}}").out
    assert line.startswith("data 4.27MB ")
    assert line.endswith(" ago\n")
    (found,) = json.loads(pyswarm("volume", "inspect", "data").out)
    assert found["UsageData"] == {"Size": 4_270_000, "RefCount": 4}
    (used,) = found["Usage"]
    assert (used["Node"], used["Inodes"]) == (node_view_name(), 12)


def node_view_name() -> str:
    return node_view().node.description.hostname


def test_inspect_has_dockers_keys(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("GetObject", pb.EncodedObject(value=encode(DATA)))
    (found,) = json.loads(pyswarm("volume", "inspect", "data").out)
    assert found["Name"] == "data"
    assert found["Driver"] == "local"
    assert found["Labels"] == {"team": "db"}
    assert found["Mountpoint"] == f"volumes/{DATA.id}/_data"
    assert found["Scope"] == "local"
    assert found["Options"] == {}
    assert found["UsageData"] == {"Size": -1, "RefCount": 4}
    assert found["Nodes"] == [node_view_name(), "gonegonegone"]
    assert pyswarm("volume", "inspect", "-f", "{{.Placement}}", "data").out == "pinned\n"


def test_rm_names_each_and_goes_on_after_a_failure(fleet: Script, pyswarm: Pyswarm) -> None:
    used = Conflict("remove data: volume is in use - [db]")
    missing = NotFound('no such volume: "x"')
    fleet.on("RemoveObject", used, missing, pb.RemoveObjectReply())
    ran = pyswarm("volume", "rm", "data", "x", "logs")
    assert ran.code == 1
    assert ran.out == "logs\n"
    assert "volume is in use - [db]" in ran.err
    assert 'no such volume: "x"' in ran.err
    fleet.on("RemoveObject", missing)
    ran = pyswarm("volume", "rm", "-f", "x")
    assert (ran.code, ran.out, ran.err) == (0, "x\n", "")


def removed(fleet: Script) -> list[str]:
    return [request.ref for request in fleet.requests("RemoveObject")]


def test_prune_removes_anonymous_volumes_and_with_all_the_others(
    fleet: Script, pyswarm: Pyswarm
) -> None:
    ran = pyswarm("volume", "prune", "--force", "--filter", "label=team")
    assert ran.out == f"Deleted Volumes:\n{'f' * 64}\n\nTotal reclaimed space: 0B\n"
    assert removed(fleet) == [UNNAMED.id]
    assert fleet.requests("ListObjects")[-1].filters == ["dangling=true", "label=team"]
    pyswarm("volume", "prune", "--all", "--force")
    assert removed(fleet)[1:] == [DATA.id, UNNAMED.id]
    pyswarm("volume", "prune", "--filter", "all=1", "--force")
    assert removed(fleet)[3:] == [DATA.id, UNNAMED.id]
    refused = pyswarm("volume", "prune", "--filter", "x=1")
    assert "expected label=KEY[=VALUE] or all=true" in refused.err


def test_prune_shows_what_it_would_remove_and_asks(
    fleet: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    ran = pyswarm("volume", "prune")
    assert "This will remove anonymous local volumes" in ran.out
    assert f"  {'f' * 64}\n" in ran.out
    assert removed(fleet) == []


def spec_of(fleet: Script) -> ServiceSpec:
    return from_proto(ServiceSpec, fleet.requests("CreateService")[-1].spec)


MOUNTS = (
    Mount(source="logs", target="/logs", read_only=True),
    Mount(target="/cache"),
    Mount(source="data", target="/data"),
    Mount(type=MountType.BIND, source="/srv", target="/srv", read_only=True),
)


@pytest.mark.parametrize("verb", [("create",), ("service", "create")])
def test_mounts_are_in_the_spec_of_services_and_containers(
    fleet: Script, pyswarm: Pyswarm, verb: tuple[str, ...]
) -> None:
    fleet.on("CreateService", service_reply())
    short = ("-v", "logs:/logs:ro,z", "--volume", "/cache")
    long = ("--mount", "src=data,dst=/data", "--mount", "type=bind,src=/srv,dst=/srv,ro")
    detach = () if verb == ("create",) else ("-d",)
    ran = pyswarm(*verb, *detach, *short, *long, "web:1")
    assert ran.code == 0
    told = "hosts apply no SELinux labels, z and Z do nothing"
    assert ran.err == f"notice: --volume logs:/logs:ro,z: {told}\n"
    assert spec_of(fleet).task_template.container_spec.mounts == MOUNTS


def test_update_adds_replaces_and_removes_mounts_by_target(fleet: Script, pyswarm: Pyswarm) -> None:
    old: Service = service()
    template = old.spec.task_template
    container = replace(template.container_spec, mounts=MOUNTS)
    template = replace(template, container_spec=container)
    old = replace(old, spec=replace(old.spec, task_template=template))
    fleet.on("GetService", service_reply(old)).on("UpdateService", service_reply(old))
    flags = ("--mount-add", "src=other,dst=/data/", "--mount-rm", "/cache/", "--mount-rm", "/none")
    ran = pyswarm("service", "update", "-d", *flags, old.spec.name)
    assert ran.code == 0, ran.err
    spec = from_proto(ServiceSpec, fleet.requests("UpdateService")[-1].spec)
    assert spec.task_template.container_spec.mounts == (
        MOUNTS[0],
        Mount(source="other", target="/data/"),
        MOUNTS[3],
    )
    refused = pyswarm("service", "update", "--mount-add", "dst=data", old.spec.name)
    assert refused.code == 2
    assert "expected an absolute target" in refused.err
