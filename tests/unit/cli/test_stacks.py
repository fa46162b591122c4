"""`pyswarm stack`: requests, output, waits and exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest

from cli.exits import ExitCode
from cli.stack import applying
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import stacks_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.errors import Conflict, NotFound
from pyswarm_core.ids import ServiceId
from pyswarm_core.kinds import STACK, encode
from pyswarm_core.objects import Version
from pyswarm_core.stacks.changes import Action, StackChange, StackReply
from pyswarm_core.stacks.stack import PreviousStack, Stack, StackContent, StackId
from pyswarm_core.states import TaskState
from tests.fixtures import stacks
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import CREATED, SERVICE_ID, progress, service, services_reply
from tests.unit.cli.scripted import Script

FILE = """
services:
  web: {image: "web:1", ports: ["8080:80"], secrets: [password]}
secrets: {password: {file: ./password}}
"""
RECORD = Stack(
    id=StackId("s" * 25),
    spec=StackContent(name="shop", services=(stacks.service("shop", "web", "web:2"),)),
    version=Version(index=2),
    created_at=CREATED,
    updated_at=CREATED,
    applied_at=CREATED,
    spec_version=2,
    previous_specs=(
        PreviousStack(
            version=1,
            spec=StackContent(name="shop", services=(stacks.service("shop", "web"),)),
            created_at=CREATED,
        ),
    ),
)


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "password").write_text("one")
    (tmp_path / "stack.yaml").write_text(FILE)
    return str(tmp_path / "stack.yaml")


def change(action: Action, **more: Any) -> StackChange:
    return StackChange(kind="service", name="shop_web", id=SERVICE_ID, action=action, **more)


def reply(*changes: StackChange) -> stacks_pb2.StackReply:
    return to_proto(StackReply(stack=RECORD, changes=changes), stacks_pb2.StackReply())


def listed(*found: Stack) -> pb.ListObjectsReply:
    objects = [pb.EncodedObject(value=encode(one)) for one in found]
    return pb.ListObjectsReply(objects=objects)


def test_deploy_sends_the_stack_and_waits(script: Script, pyswarm: Pyswarm, file: str) -> None:
    script.on("ApplyStack", reply(change(Action.CREATED)))
    script.on("WatchService", [progress(0, 1), progress(1, 1)])
    ran = pyswarm("stack", "deploy", "--prune", "--resolve-image", "changed", "-c", file, "shop")
    assert ran.code == ExitCode.SUCCESS
    assert ran.out == "Creating service shop_web\n"
    (asked,) = script.requests("ApplyStack")
    assert (asked.prune, asked.dry_run, asked.resolve_image) == (True, False, "changed")
    assert asked.spec.name == "shop"
    assert asked.spec.secrets[0].data == b"one"
    assert asked.spec.services[0].name == "shop_web"


def test_detach_waits_for_nothing(script: Script, pyswarm: Pyswarm, file: str) -> None:
    script.on("ApplyStack", reply(change(Action.REPLACED)))
    ran = pyswarm("stack", "deploy", "-d", "-c", file, "shop")
    assert (ran.code, ran.out) == (ExitCode.SUCCESS, "Updating service shop_web\n")
    assert not script.requests("WatchService")


def test_a_plan_prints_the_differences(script: Script, pyswarm: Pyswarm, file: str) -> None:
    replaced = change(
        Action.REPLACED,
        reason="Image; 9 by hand, the file says 2; --reset-scale",
        difference=("Image: web:1 -> web:2",),
    )
    same = StackChange(kind="network", name="shop_default", action=Action.UNCHANGED)
    script.on("ApplyStack", reply(replaced, same))
    ran = pyswarm("stack", "deploy", "--plan", "-c", file, "shop")
    assert ran.out == (
        "~ service shop_web would be updated; its tasks are replaced\n"
        "    Image: web:1 -> web:2\n"
        "    9 by hand, the file says 2; --reset-scale\n"
        "1 object stays as it is\n"
    )
    assert script.requests("ApplyStack")[0].dry_run


def test_unchanged_services_that_run_are_not_watched(
    script: Script, pyswarm: Pyswarm, file: str
) -> None:
    script.on("ApplyStack", reply(change(Action.UNCHANGED)))
    script.on("ListServices", services_reply(service("shop_web"), running=3))
    ran = pyswarm("stack", "deploy", "-c", file, "shop")
    assert (ran.code, ran.out) == (ExitCode.SUCCESS, "")
    assert not script.requests("WatchService")


def test_unchanged_services_that_do_not_run_are_waited_for(
    script: Script, pyswarm: Pyswarm, file: str
) -> None:
    script.on("ApplyStack", reply(change(Action.UNCHANGED)))
    script.on("ListServices", services_reply(service("shop_web"), running=2))
    script.on("WatchService", [progress(3, 3)])
    assert pyswarm("stack", "deploy", "-c", file, "shop").code == ExitCode.SUCCESS
    assert len(script.requests("WatchService")) == 1


def unplaced() -> pb.ServiceProgress:
    message = progress(1, 2, state=TaskState.PENDING)
    message.slots[1].message = "no suitable node: insufficient memory on 3 nodes"
    return message


def test_a_placement_that_is_impossible_has_its_exit_code(
    script: Script, pyswarm: Pyswarm, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applying, "UNPLACED_S", 0.05)
    script.on("ApplyStack", reply(change(Action.CREATED)))
    script.on("WatchService", [unplaced()])
    ran = pyswarm("stack", "deploy", "-c", file, "shop")
    assert ran.code == ExitCode.UNPLACED
    assert "Error: service shop_web: no suitable node: insufficient memory on 3 nodes" in ran.err
    assert "`pyswarm why shop_web`" in ran.err


def test_the_time_is_over(script: Script, pyswarm: Pyswarm, file: str) -> None:
    script.on("ApplyStack", reply(change(Action.CREATED)))
    script.on("WatchService", [progress(0, 1)])
    ran = pyswarm("stack", "deploy", "--wait-timeout", "1", "-c", file, "shop")
    assert ran.code == ExitCode.UNFINISHED
    assert "the time is over, and the change continues" in ran.err


def test_a_deploy_waits_for_the_former_stack(
    script: Script, pyswarm: Pyswarm, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applying, "POLL_S", 0.01)
    leaving = Conflict('stack "shop" is being removed: apply it again once its tasks have ended')
    script.on("ApplyStack", leaving, leaving, reply(change(Action.CREATED)))
    script.on("WatchService", [progress(1, 1)])
    ran = pyswarm("stack", "deploy", "-c", file, "shop")
    assert ran.code == ExitCode.SUCCESS
    assert ran.err.count("waiting until the former stack shop is removed") == 1


def test_other_conflicts_are_told_at_once(script: Script, pyswarm: Pyswarm, file: str) -> None:
    script.on("ApplyStack", Conflict("port 8080/tcp is published by service x"))
    assert pyswarm("stack", "deploy", "-c", file, "shop").code == ExitCode.FAILURE
    assert len(script.requests("ApplyStack")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "services: {web: {image: 'web:1', secrets: [none]}}",
        "services: [web]",
        "services: {web: {}}",
        "",
    ],
)
def test_a_bad_file_reaches_no_controller(
    script: Script, pyswarm: Pyswarm, tmp_path: Path, text: str
) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    ran = pyswarm("stack", "deploy", "-c", str(tmp_path / "bad.yaml"), "shop")
    assert ran.code in (ExitCode.USAGE, ExitCode.FAILURE)
    assert "Traceback" not in ran.err
    assert not script.asked


def test_ls_has_docker_s_columns(script: Script, pyswarm: Pyswarm) -> None:
    script.on("ListObjects", listed(RECORD))
    mine = service("shop_web", labels=stacks.labels("shop"))
    script.on("ListServices", services_reply(mine))
    assert pyswarm("stack", "ls").out.split() == ["NAME", "SERVICES", "shop", "1"]
    assert pyswarm("stack", "ls", "-q").out == "shop\n"
    assert pyswarm("stack", "ls", "--format", "{{.Name}} {{.Version}}").out == "shop 2\n"


def test_ls_has_stacks_that_are_labels_alone(script: Script, pyswarm: Pyswarm) -> None:
    script.on("ListObjects", listed(RECORD))
    labelled = [service(name, labels=stacks.labels("hand")) for name in ("a", "b")]
    mine = service("shop_web", labels=stacks.labels("shop"))
    script.on("ListServices", services_reply(*labelled, mine))
    shown = pyswarm("stack", "ls", "--format", "{{.Name}} {{.Services}} {{.Version}}").out
    assert shown == "hand 2 0\nshop 1 2\n"
    (asked,) = script.requests("ListServices")
    assert list(asked.filters) == ["label=com.docker.stack.namespace"]


def test_up_and_down_are_deploy_and_rm(script: Script, pyswarm: Pyswarm, file: str) -> None:
    script.on("ApplyStack", reply(change(Action.CREATED)))
    ran = pyswarm("stack", "up", "--detach", "-c", file, "shop")
    assert (ran.code, ran.out) == (ExitCode.SUCCESS, "Creating service shop_web\n")
    script.on("RemoveStack", reply(change(Action.REMOVED)))
    ran = pyswarm("stack", "down", "--detach", "shop")
    assert (ran.code, ran.out) == (ExitCode.SUCCESS, "Removing service shop_web\n")
    listing = pyswarm("stack", "--help").out
    assert "deploy" in listing
    assert " up " not in listing


def test_inspect_shows_a_stack(script: Script, pyswarm: Pyswarm) -> None:
    script.on("GetObject", pb.EncodedObject(value=encode(RECORD)))
    ran = pyswarm("inspect", "--type", "stack", "shop")
    assert ran.code == ExitCode.SUCCESS, ran.err
    (shown,) = json.loads(ran.out)
    assert shown["Spec"]["Name"] == "shop"
    assert shown["Spec"]["Services"][0]["Name"] == "shop_web"
    ran = pyswarm("inspect", "--type", "stack", "-f", "{{.SpecVersion}}", "shop")
    assert ran.out == "2\n"
    script.on("GetObject", NotFound("no such stack"))
    ran = pyswarm("inspect", "--type", "stack", "none")
    assert "No such stack: none: `pyswarm stack ls` lists all stacks" in ran.err


def test_services_and_ps_are_those_of_the_stack(script: Script, pyswarm: Pyswarm) -> None:
    found = service("shop_web")
    script.on("ListServices", services_reply(found))
    script.on("ListTasks", pb.ListTasksReply())
    assert "shop_web" in pyswarm("stack", "services", "shop").out
    (asked,) = script.requests("ListServices")
    assert list(asked.filters) == ["label=com.docker.stack.namespace=shop"]
    assert pyswarm("stack", "ps", "shop").code == ExitCode.SUCCESS
    assert list(script.requests("ListTasks")[0].services) == [ServiceId(found.id)]
    script.on("ListServices", pb.ListServicesReply())
    for verb in ("services", "ps"):
        ran = pyswarm("stack", verb, "none")
        assert (ran.code, ran.err) == (ExitCode.FAILURE, "Error: nothing found in stack: none\n")


def test_logs_are_those_of_all_services_or_of_the_named(script: Script, pyswarm: Pyswarm) -> None:
    script.on("ListServices", services_reply(service("shop_web")))
    script.on("Logs", [pb.LogsReply(of_service=True)])
    for names in ((), ("web",), ("shop_web",)):
        ran = pyswarm("stack", "logs", "--tail", "3", "shop", *names)
        assert ran.code == ExitCode.SUCCESS, ran.err
    assert {(one.ref, one.tail) for one in script.requests("Logs")} == {(SERVICE_ID, 3)}
    ran = pyswarm("stack", "logs", "shop", "wep")
    assert "stack shop has no service wep; did you mean shop_web?" in ran.err


def test_rm_waits_until_the_stack_is_gone(script: Script, pyswarm: Pyswarm) -> None:
    script.on("RemoveStack", reply(change(Action.REMOVED)))
    gone = progress(0, 0)
    gone.gone = True
    script.on("WatchService", [gone])
    there = pb.EncodedObject(value=encode(RECORD))
    script.on("GetObject", there, NotFound("no such stack"))
    ran = pyswarm("stack", "rm", "shop")
    assert (ran.code, ran.out) == (ExitCode.SUCCESS, "Removing service shop_web\n")
    assert len(script.requests("GetObject")) == 2


def test_rm_names_every_stack_that_is_not_there(script: Script, pyswarm: Pyswarm) -> None:
    script.on("RemoveStack", NotFound("no such stack: a"), NotFound("no such stack: b"))
    ran = pyswarm("stack", "rm", "a", "b")
    assert ran.code == ExitCode.FAILURE
    assert "no such stack: a; no such stack: b" in ran.err


def test_history_says_what_changed(script: Script, pyswarm: Pyswarm) -> None:
    script.on("GetObject", pb.EncodedObject(value=encode(RECORD)))
    ran = pyswarm("stack", "history", "shop", "--format", "{{.Version}}: {{.Changes}}")
    assert ran.out.splitlines()[0].startswith("2: shop_web: ")
    assert "Image web:1 -> web:2" in ran.out
    assert ran.out.splitlines()[1] == "1: "
    assert STACK.decode(encode(RECORD)) == RECORD


def test_a_rollback_names_the_version(script: Script, pyswarm: Pyswarm) -> None:
    script.on("RollbackStack", reply(change(Action.REPLACED)))
    script.on("WatchService", [progress(1, 1)])
    assert pyswarm("stack", "rollback", "--to", "3", "shop").code == ExitCode.SUCCESS
    (asked,) = script.requests("RollbackStack")
    assert (asked.ref, asked.to, asked.dry_run) == ("shop", 3, False)


def test_strict_refuses_what_a_fleet_does_otherwise(
    script: Script, pyswarm: Pyswarm, tmp_path: Path
) -> None:
    path = tmp_path / "strict.yaml"
    path.write_text("services: {web: {image: w, volumes: ['./page:/page']}}\n")
    (tmp_path / "page").write_text("1")
    ran = pyswarm("stack", "deploy", "--strict", "-c", str(path), "shop")
    assert ran.code is ExitCode.USAGE
    assert "services.web.volumes[0]: page becomes config shop_page-" in ran.err
    assert not script.asked
