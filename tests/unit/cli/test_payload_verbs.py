"""`secret` and `config`: the flags, lists, documents and errors of Docker's commands."""

import json
from pathlib import Path
from typing import Any

import pytest

from cli.main import COMMANDS
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.errors import NotFound
from pyswarm_core.kinds import CONFIG, SECRET, encode
from pyswarm_core.objects import Version
from pyswarm_core.payloads import syntax
from pyswarm_core.payloads.payload import Config, PayloadId, PayloadSpec, Secret
from pyswarm_core.specs import ContainerSpec, TaskSpec
from pyswarm_core.volumes.mounts import Driver, Mount
from tests.fixtures.source import ROOT
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import service, service_reply
from tests.unit.cli.scripted import Script
from tests.unit.cli.test_container_flags import LISTS, options_of

DOCKER = json.loads((ROOT / "tests/fixtures/docker_payload_flags.json").read_text())["commands"]
ROWS = [(command, row) for command in DOCKER for row in DOCKER[command]]
REPEATED = (*LISTS, "filter", "secret", "config")
KINDS = {"secret": (SECRET, Secret), "config": (CONFIG, Config)}
CREATED = Instant(1_700_000_000 * SECOND + 500_000_000)


def made(kind: str, name: str, **fields: Any) -> Any:
    labels = fields.pop("labels", {})
    templating = fields.pop("templating", None)
    return KINDS[kind][1](
        id=PayloadId(name[:1] * 25),
        spec=PayloadSpec(name=name, labels=labels, templating=templating),
        version=Version(index=1),
        created_at=CREATED,
        updated_at=CREATED,
        **fields,
    )


def listed(script: Script, *found: Any) -> None:
    values = [pb.EncodedObject(value=encode(one)) for one in found]
    script.on("ListObjects", lambda request: [pb.ListObjectsReply(objects=values)])


@pytest.mark.parametrize(
    ("command", "row"), ROWS, ids=[f"{command} {row['flag']}" for command, row in ROWS]
)
def test_a_flag_of_docker_has_its_form_or_is_refused(
    command: str, row: dict[str, str], script: Script, pyswarm: Pyswarm
) -> None:
    flag = row["flag"]
    option = options_of(command)[flag]
    assert (row.get("short") or "") in ("", *option.opts)
    if option.hidden:
        ran = pyswarm(*command.split()[1:], flag, "x", "db", "-")
        assert (ran.code, ran.out, script.asked) == (2, "", [])
        assert f"Error: {flag} is not supported: there are no secret drivers" in ran.err
        return
    assert option.is_flag == ("type" not in row)
    assert option.multiple == (row.get("type") in REPEATED)


@pytest.mark.parametrize("kind", KINDS)
def test_the_second_names_of_commands(kind: str, script: Script, pyswarm: Pyswarm) -> None:
    listed(script)
    assert pyswarm(kind, "list", "-q").code == 0
    assert f"Remove one or more {kind}s" in pyswarm(kind, "remove", "--help").out
    assert "list" not in pyswarm(kind, "--help").out.split()
    assert not {"list", "remove"} & COMMANDS.keys()
    assert "is not a command of pyswarm" in pyswarm("remove", "db").err


@pytest.mark.parametrize(
    ("kind", "headings"),
    [("secret", "ID NAME DRIVER CREATED UPDATED"), ("config", "ID NAME CREATED UPDATED")],
)
def test_the_table_has_dockers_columns(
    kind: str, headings: str, script: Script, pyswarm: Pyswarm
) -> None:
    listed(script, made(kind, "db", labels={"b": "2", "a": "1"}))
    heading, row = pyswarm(kind, "ls").out.splitlines()
    assert heading.split() == headings.split()
    assert row.split()[:2] == ["d" * 25, "db"]
    assert heading.index("NAME") == row.index("db") == 28
    assert row.endswith(" ago")


@pytest.mark.parametrize("kind", KINDS)
def test_the_placeholders_of_lists(kind: str, script: Script, pyswarm: Pyswarm) -> None:
    listed(script, made(kind, "db", labels={"b": "2", "a": "1"}))
    form = '{{.ID}} {{.Name}} {{.Labels}} {{.Label "a"}}/{{.Label "none"}}'
    assert pyswarm(kind, "ls", "--format", form).out == f"{'d' * 25} db a=1,b=2 1/\n"
    assert pyswarm(kind, "ls", "-q").out == f"{'d' * 25}\n"
    assert pyswarm(kind, "ls", "-q", "--format", "{{.Name}}").out == "db\n"
    table = pyswarm(kind, "ls", "--format", "table {{.Name}}\\t{{.Labels}}").out
    assert table == "NAME      LABELS\ndb        a=1,b=2\n"
    dockers = {"CreatedAt", "ID", "Labels", "Name", "UpdatedAt"} | (
        {"Driver"} if kind == "secret" else set()
    )
    shown = json.loads(pyswarm(kind, "ls", "--format", "json").out)
    assert shown.keys() == {*dockers, "Version"}
    ran = pyswarm(kind, "ls", "--format", "{{.Driver}}")
    assert ran.code == (0 if kind == "secret" else 2)


@pytest.mark.parametrize("kind", KINDS)
def test_the_document_has_dockers_keys(kind: str, script: Script, pyswarm: Pyswarm) -> None:
    data = {"data": b"listen 80;\n"} if kind == "config" else {}
    labels = {"tier": "back", "lone": ""}
    item = made(kind, "db", labels=labels, templating=Driver(name="golang"), number=3, **data)
    script.on("GetObject", pb.EncodedObject(value=encode(item)))
    (shown,) = json.loads(pyswarm(kind, "inspect", "db").out)
    assert [*shown] == ["ID", "Version", "CreatedAt", "UpdatedAt", "Spec", "Number"]
    assert shown["Version"] == {"Index": 1}
    assert shown["CreatedAt"] == "2023-11-14T22:13:20.500000000Z"
    assert shown["Spec"] == {
        "Name": "db",
        "Labels": labels,
        **({"Data": "bGlzdGVuIDgwOwo="} if data else {}),
        "Templating": {"Name": "golang"},
    }
    form = "{{.Spec.Name}} {{.Version.Index}} {{json .Spec.Labels}}"
    shown = pyswarm(kind, "inspect", "-f", form, "db").out
    assert shown == 'db 1 {"lone":"","tier":"back"}\n'


def test_a_secret_for_people(script: Script, pyswarm: Pyswarm) -> None:
    item = made("secret", "db", labels={"tier": "back", "lone": ""}, number=2)
    script.on("GetObject", pb.EncodedObject(value=encode(item)))
    shown = pyswarm("secret", "inspect", "--pretty", "db").out
    assert shown == pyswarm("secret", "inspect", "--format", "pretty", "db").out
    assert shown.split("\n") == [
        f"ID:              {'d' * 25}",
        "Name:              db",
        "Labels:",
        " - lone",
        " - tier=back",
        "Driver:            ",
        "Created at:        2023-11-14 22:13:20.5 +0000 utc",
        "Updated at:        2023-11-14 22:13:20.5 +0000 utc",
        "Version:           2",
        "",
    ]


def test_a_config_for_people(script: Script, pyswarm: Pyswarm) -> None:
    item = made("config", "web", data=b"server {\n\tlisten 80;\x1b[2J\n}\n")
    script.on("GetObject", pb.EncodedObject(value=encode(item)))
    assert pyswarm("config", "inspect", "--pretty", "web").out.split("\n") == [
        f"ID:\t\t\t{'w' * 25}",
        "Name:\t\t\tweb",
        "Created at:            \t2023-11-14 22:13:20.5 +0000 utc",
        "Updated at:            \t2023-11-14 22:13:20.5 +0000 utc",
        "Version:            \t1",
        "Data:",
        "server {",
        "\tlisten 80;\\x1b[2J",
        "}",
        "",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_exist(kind: str, script: Script, pyswarm: Pyswarm) -> None:
    script.on("GetObject", NotFound(f"{kind} db not found"))
    ran = pyswarm(kind, "inspect", "db")
    assert (ran.code, ran.out, ran.err) == (1, "[]\n", f"Error: {kind} db not found\n")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", ["create", "update"])
def test_a_file_that_cannot_be_read_is_named_once(
    kind: str, command: str, script: Script, pyswarm: Pyswarm, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    size = {"secret": 512_000, "config": 1_024_000}[kind]
    (tmp_path / "large").write_bytes(b"x" * (size + 8))
    expected = f"{kind} data must be larger than 0 and less than {size} bytes"
    for name, told in (
        ("none", f"error reading from {tmp_path}/none: no such file or directory"),
        (".", f"error reading from {tmp_path}/.: is a directory"),
        ("empty", f"{kind} data: size 0 is not valid: {expected}"),
        ("large", f"{kind} data: size {size + 8} is not valid: {expected}"),
    ):
        ran = pyswarm(kind, command, "db", f"{tmp_path}/{name}")
        assert (ran.code, ran.out, ran.err) == (2, "", f"Error: {told}\n")
    ran = pyswarm(kind, command, "--keep-versions", "x", "db", f"{tmp_path}/large")
    assert (ran.code, "expected an integer of 0 to 100" in ran.err) == (2, True)
    ran = pyswarm(kind, command, "db", "")
    assert f"{kind} file is required: expected a file, or - for stdin" in ran.err
    assert script.asked == []


def test_a_service_for_people_has_its_files(script: Script, pyswarm: Pyswarm) -> None:
    container = ContainerSpec(
        image="web:1",
        mounts=(Mount(source="data", target="/data", read_only=True),),
        configs=(syntax.config("source=web.conf,target=/etc/web"),),
        secrets=(syntax.secret("db@2"), syntax.secret_env("PW=db")),
    )
    found = service("web", task_template=TaskSpec(container_spec=container))
    script.on("GetService", service_reply(found)).on("ListObjects", [pb.ListObjectsReply()])
    shown = pyswarm("service", "inspect", "--pretty", "web").out
    begin = shown.index("Mounts:")
    assert shown[begin : shown.index("RestartPolicy:")].splitlines() == [
        "Mounts:",
        " Target:        /data",
        "  Source:       data",
        "  ReadOnly:     true",
        "  Type:         volume",
        "Configs:",
        " Target:        /etc/web",
        "  Source:       web.conf",
        "Secrets:",
        " Target:        db",
        "  Source:       db@2",
        " Variable:      PW",
        "  Source:       db",
    ]
