"""Completion of names, and the alias, in real shells' terms."""

import os
import subprocess
import sys
from typing import Any

import pytest
from click.shell_completion import ShellComplete

from cli.main import root
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.errors import PermissionDenied
from pyswarm_core.kinds import encode
from pyswarm_core.stacks.stack import Stack, StackContent, StackId
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.scripted import Script
from tests.unit.cli.test_payload_verbs import made
from tests.unit.cli.test_volumes import DATA

PATIENT = (
    "from cli.verbs import completing; completing.COMPLETION_TIMEOUT_S = 50.0;"
    "from cli.main import main; main()"
)
"""As the command, with the time that a busy machine takes to import gRPC."""


def complete(script: Script, line: str) -> list[str]:
    """What bash is offered for the last word of the line."""
    words = line.split(" ")
    done = subprocess.run(
        [sys.executable, "-c", PATIENT],
        env=os.environ
        | {
            "PYSWARM_HOST": script.host,
            "_PYSWARM_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not done.stderr
    return [offer.partition(",")[2] for offer in done.stdout.splitlines() if offer]


def made_of(kind: str) -> Any:
    if kind == "volume":
        return DATA
    if kind == "stack":
        return Stack(id=StackId("s" * 25), spec=StackContent(name="data"))
    return made(kind, "data")


def _services(*names: str) -> pb.ListServicesReply:
    reply = pb.ListServicesReply()
    for name in names:
        reply.services.add().service.spec.name = name
    return reply


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("pyswarm service inspect we", ["web", "web2"]),
        ("pyswarm service inspect web ", ["db", "web", "web2"]),
        ("pyswarm service update d", ["db"]),
        ("pyswarm service logs web", ["web", "web.1", "web2"]),
        ("pyswarm servi", ["service"]),
    ],
)
def test_names_of_objects_are_completed(script: Script, line: str, offered: list[str]) -> None:
    script.on("ListServices", [_services("web", "db", "web2")])
    script.on("ListTasks", [pb.ListTasksReply(tasks=[pb.TaskView(name="web.1")])])
    assert complete(script, line) == offered


@pytest.mark.parametrize("kind", ["volume", "secret", "config", "stack"])
def test_names_of_every_kind_are_completed(kind: str, script: Script) -> None:
    item = made_of(kind)
    script.on("ListObjects", [pb.ListObjectsReply(objects=[pb.EncodedObject(value=encode(item))])])
    verb = "ps" if kind == "stack" else "inspect"
    assert complete(script, f"pyswarm {kind} {verb} d") == ["data"]
    assert {request.kind for request in script.requests("ListObjects")} == {kind}


FILES = {
    "compose -f ": "file",
    "compose --env-file x": "file",
    "compose --project-directory ": "dir",
    "stack deploy -c ": "file",
    "service create --env-file ": "file",
    "secret create pw ./": "file",
    "build ": "dir",
    "build -f ": "file",
    "context import ann ": "file",
    "load -i ": "file",
    "cp ./": "file",
    "run --entrypoint ": "",
    "run -w ": "",
    "secret create ": "",
}


@pytest.mark.parametrize("line", FILES)
def test_the_shell_completes_files_of_this_machine(line: str, script: Script) -> None:
    script.on("ListTasks", [pb.ListTasksReply()])
    words = line.split(" ")
    found = ShellComplete(root, {}, "pyswarm", "X").get_completions(words[:-1], words[-1])
    assert [(item.type, item.value) for item in found] == (
        [(FILES[line], words[-1])] if FILES[line] else []
    )


def test_without_an_answer_nothing_is_offered(script: Script) -> None:
    script.on("ListServices", PermissionDenied("no"))
    assert complete(script, "pyswarm service inspect we") == []


def test_the_alias_of_docker_calls_pyswarm(pyswarm: Pyswarm) -> None:
    function = pyswarm("alias", "docker").out
    text = f'pyswarm() {{ echo "pyswarm $#: $*"; }}; {function} docker run "a b" c'
    text = text.replace("command pyswarm", "pyswarm")
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout == "pyswarm 3: run a b c\n"


def test_the_alias_of_docker_compose_calls_the_verbs_of_compose(pyswarm: Pyswarm) -> None:
    function = pyswarm("alias", "docker-compose").out
    script = f'pyswarm() {{ echo "<$*>"; }}\ncommand() {{ "$@"; }}\n{function}docker-compose up -d'
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "<compose up -d>\n"
