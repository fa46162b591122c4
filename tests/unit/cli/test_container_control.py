"""pause, top, diff, wait, port, kill, update, cp and export: requests, output and bad input."""

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from cli.container.files import local
from cli.container.files.cp import Place, place
from cli.exits import ExitCode
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import files_pb2
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.errors import Conflict, NotFound
from pyswarm_core.objects import Endpoint, Service, Task
from pyswarm_core.specs import (
    ContainerMode,
    PortConfig,
    Protocol,
    RestartCondition,
    ServiceSpec,
)
from pyswarm_core.states import TaskState
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import progress, service, service_reply, tasks_reply
from tests.unit.cli.scripted import Script


def container(state: TaskState = TaskState.RUNNING, **changes: object) -> pb.ContainerReply:
    """What the name of a container means."""
    found = service(**changes)  # type: ignore[arg-type]
    found = replace(found, spec=replace(found.spec, mode=ContainerMode()))
    view = tasks_reply().tasks[0]
    task = replace(from_proto(Task, view.task), state=state)
    view.task.Clear()
    to_proto(task, view.task)
    reply = pb.ContainerReply(task=view)
    to_proto(found, reply.service)
    return reply


def test_pauses_name_their_containers(script: Script, pyswarm: Pyswarm) -> None:
    paused = Conflict("container a is already paused")
    script.on("PauseContainer", paused, files_pb2.PauseReply())
    script.on("UnpauseContainer", files_pb2.PauseReply())
    ran = pyswarm("pause", "a", "b")
    assert (ran.code, ran.out, ran.err) == (1, "b\n", f"Error: {paused}\n")
    assert pyswarm("unpause", "b").out == "b\n"
    assert [one.ref for one in script.requests("UnpauseContainer")] == ["b"]


def test_processes_are_a_table(script: Script, pyswarm: Pyswarm) -> None:
    rows = [files_pb2.TopRow(cells=["root", "12", "nginx: master"])]
    script.on("Top", files_pb2.TopReply(titles=["UID", "PID", "CMD"], rows=rows))
    ran = pyswarm("top", "web.1", "-o", "uid,pid,args")
    assert ran.out.split("\n")[1].split() == ["root", "12", "nginx:", "master"]
    (request,) = script.requests("Top")
    assert (request.ref, list(request.options)) == ("web.1", ["-o", "uid,pid,args"])


def test_changed_files_are_lines(script: Script, pyswarm: Pyswarm) -> None:
    parts = [
        files_pb2.ChangesReply(changes=[files_pb2.FileChange(kind="C", path="/etc")]),
        files_pb2.ChangesReply(changes=[files_pb2.FileChange(kind="A", path="/etc/new")]),
    ]
    script.on("Changes", parts)
    assert pyswarm("diff", "web.1").out == "C /etc\nA /etc/new\n"


def test_control_characters_of_containers_are_escaped(script: Script, pyswarm: Pyswarm) -> None:
    evil, shown = "a\x1b]0;x\x07\nb", r"a\x1b]0;x\x07\nb"
    change = files_pb2.FileChange(kind="A", path=f"/é{evil}")
    script.on("Changes", [files_pb2.ChangesReply(changes=[change])])
    assert pyswarm("diff", "web.1").out == f"A /é{shown}\n"
    script.on("Top", files_pb2.TopReply(titles=["CMD"], rows=[files_pb2.TopRow(cells=[evil])]))
    assert pyswarm("top", "web.1").out.split("\n")[1] == shown


def test_a_wait_prints_exit_codes(script: Script, pyswarm: Pyswarm) -> None:
    script.on("WaitContainer", [files_pb2.WaitReply(exit_code=7)])
    assert pyswarm("wait", "a", "b").out == "7\n7\n"


def test_a_wait_for_a_missing_container_is_an_error(script: Script, pyswarm: Pyswarm) -> None:
    script.on("WaitContainer", NotFound("No such container: a"))
    ran = pyswarm("wait", "a")
    assert (ran.code, ran.out) == (1, "")


PORTS = Endpoint(
    ports=(
        PortConfig(target_port=80, published_port=8080),
        PortConfig(target_port=53, published_port=5353, protocol=Protocol.UDP),
    )
)


def with_ports() -> pb.ContainerReply:
    reply = container()
    found = replace(from_proto(Service, reply.service), endpoint=PORTS)
    reply.service.Clear()
    to_proto(found, reply.service)
    return reply


@pytest.mark.parametrize(
    ("words", "out"),
    [
        ((), "53/udp -> 0.0.0.0:5353\n80/tcp -> 0.0.0.0:8080\n"),
        (("80",), "0.0.0.0:8080\n"),
        (("53/udp",), "0.0.0.0:5353\n"),
    ],
)
def test_published_ports(
    script: Script, pyswarm: Pyswarm, words: tuple[str, ...], out: str
) -> None:
    script.on("GetContainer", with_ports())
    assert pyswarm("port", "web", *words).out == out


@pytest.mark.parametrize(
    ("word", "code", "words"),
    [
        ("53", 1, "no public port 53/tcp published for web"),
        ("0", 2, "PRIVATE_PORT"),
        ("80/x", 2, "PRIVATE_PORT"),
    ],
)
def test_ports_that_are_not_published(
    script: Script, pyswarm: Pyswarm, word: str, code: int, words: str
) -> None:
    script.on("GetContainer", with_ports())
    ran = pyswarm("port", "web", word)
    assert (ran.code, words in ran.err) == (code, True)


def test_a_killed_container_stays_stopped(script: Script, pyswarm: Pyswarm) -> None:
    script.on("GetContainer", container())
    script.on("GetService", service_reply(service())).on("UpdateService", service_reply(service()))
    script.on("SignalTask", pb.SignalTaskReply())
    assert pyswarm("kill", "web").out == "web\n"
    (update,) = script.requests("UpdateService")
    assert update.spec.stopped
    (signalled,) = script.requests("SignalTask")
    assert signalled.signal == "KILL"


def test_another_signal_stops_nothing(script: Script, pyswarm: Pyswarm) -> None:
    script.on("GetContainer", container()).on("SignalTask", pb.SignalTaskReply())
    assert pyswarm("kill", "-s", "HUP", "web").out == "web\n"
    assert script.requests("UpdateService") == []


def test_a_container_that_does_not_run_is_not_killed(script: Script, pyswarm: Pyswarm) -> None:
    script.on("GetContainer", container(TaskState.COMPLETE))
    ran = pyswarm("kill", "web")
    assert (ran.code, ran.err) == (1, "Error: container web is not running\n")


def test_an_update_changes_limits_and_the_restart_policy(script: Script, pyswarm: Pyswarm) -> None:
    found = container()
    reply = pb.ServiceReply(service=found.service)
    script.on("GetContainer", found).on("GetService", reply).on("UpdateService", reply)
    script.on("WatchService", [progress(1, 1)])
    words = "--cpus 1.5 -m 256m --memory-swap 512m --pids-limit 100 --restart on-failure:3"
    ran = pyswarm("update", *words.split(), "web")
    assert (ran.code, ran.out, ran.err) == (0, "web\n", "")
    (request,) = script.requests("UpdateService")
    template = from_proto(ServiceSpec, request.spec).task_template
    limits, policy = template.resources.limits, template.restart_policy
    assert (limits.nano_cpus, limits.memory_bytes, limits.pids) == (1_500_000_000, 256 << 20, 100)
    assert template.resources.swap_bytes == 256 << 20
    assert (policy.condition, policy.max_attempts) == (RestartCondition.ON_FAILURE, 3)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("web",), 2, "expected one or more flags"),
        (("--cpus", "x", "web"), 2, "--cpus"),
        (("--restart", "sometimes", "web"), 2, "--restart"),
        (("--cpu-rt-period", "1", "web"), 2, "--cpu-rt-period is not supported"),
    ],
)
def test_bad_updates(
    script: Script, pyswarm: Pyswarm, words: tuple[str, ...], code: int, text: str
) -> None:
    script.on("GetContainer", container()).on("GetService", service_reply(service()))
    ran = pyswarm("update", *words)
    assert (ran.code, text in ran.err) == (code, True), ran.err
    assert script.requests("UpdateService") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web:/etc", Place("web", "/etc")),
        ("web.1:a:b", Place("web.1", "a:b")),
        ("./a:b", Place("", "./a:b")),
        ("/a:b", Place("", "/a:b")),
        ("a", Place("", "a")),
        ("-", Place("", "-")),
    ],
)
def test_the_ends_of_a_copy(text: str, expected: Place) -> None:
    assert place(text) == expected


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("a:/x", "b:/y"), "copying between containers is not supported"),
        (("a", "b"), "at least one container"),
        (("a:", "b"), 'source: value "a:" is not valid: expected a path'),
        (("", "b:/x"), 'source: value "" is not valid: expected a path'),
        (("a:/x", "/no/such/directory/b"), "no such directory"),
    ],
)
def test_bad_copies_call_nobody(
    script: Script, pyswarm: Pyswarm, words: tuple[str, ...], text: str
) -> None:
    ran = pyswarm("cp", *words)
    assert (ran.code in (ExitCode.USAGE, ExitCode.FAILURE), text in ran.err) == (True, True)


def test_a_source_that_does_not_exist_calls_nobody(
    script: Script, pyswarm: Pyswarm, tmp_path: Path
) -> None:
    ran = pyswarm("cp", str(tmp_path / "none"), "a:/x")
    assert (ran.code, "no such file" in ran.err) == (1, True)


def test_nobody_else_reads_a_file_that_is_exported(
    script: Script, pyswarm: Pyswarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []

    def export(_client: object, _container: str, output: int) -> None:
        modes.append(os.fstat(output).st_mode & 0o777)

    monkeypatch.setattr(local, "export", export)
    before = os.umask(0)
    try:
        assert pyswarm("export", "-o", str(tmp_path / "tar"), "web").code == 0
    finally:
        os.umask(before)
    assert modes == [0o600]
    assert (tmp_path / "tar").stat().st_mode & 0o777 == 0o600


def test_an_export_needs_a_place(script: Script, pyswarm: Pyswarm, tmp_path: Path) -> None:
    ran = pyswarm("export", "-o", str(tmp_path / "none" / "tar"), "web")
    assert (ran.code, "no such directory" in ran.err) == (1, True)
    ran = pyswarm("export", "-o", str(tmp_path), "web")
    assert (ran.code, "it is a directory" in ran.err) == (2, True)
