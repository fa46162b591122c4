"""How commands end: goals that cannot be reached, Ctrl-C at any moment, readers that go away."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from cli.exits import ExitCode
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.errors import NotFound
from pyswarm_core.states import TaskState
from tests.fixtures.source import ROOT
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import SERVICE_ID, progress, service, service_reply
from tests.unit.cli.scripted import Script

FAILURE = "web.1 failed: non-zero exit (1), and it is not replaced: restart condition is none"


def failed(running: int, desired: int) -> pb.ServiceProgress:
    message = progress(running, desired, state=TaskState.FAILED)
    message.failure = FAILURE
    return message


def test_a_wait_ends_when_the_goal_cannot_be_reached(script: Script, pyswarm: Pyswarm) -> None:
    script.on("CreateService", service_reply())
    script.on("WatchService", [progress(0, 3), failed(2, 3)])
    ran = pyswarm("service", "create", "web")
    assert (ran.code, ran.out) == (ExitCode.CONVERGENCE_FAILED, f"{SERVICE_ID}\n")
    *_, last = ran.err.splitlines()
    assert last.startswith(f"Error: service web cannot converge: {FAILURE}")
    assert "`pyswarm service logs web`" in last
    assert "`pyswarm why web`" in last


def test_one_that_fails_does_not_end_the_wait_for_the_others(
    script: Script, pyswarm: Pyswarm
) -> None:
    other = replace(service("db"), id="o" * 25)
    script.on("GetService", service_reply(), service_reply(other))
    script.on("UpdateService", service_reply(), service_reply(other))

    def watched(request: pb.WatchServiceRequest) -> list[pb.ServiceProgress]:
        return [failed(0, 1)] if request.ref == SERVICE_ID else [progress(0, 1), progress(1, 1)]

    script.on("WatchService", watched)
    ran = pyswarm("service", "scale", "web=1", "db=1")
    assert ran.code == ExitCode.CONVERGENCE_FAILED
    assert "db: verify: Service db converged" in ran.err


def test_a_goal_that_cannot_be_reached_hides_no_other_failure(
    script: Script, pyswarm: Pyswarm
) -> None:
    script.on("GetService", NotFound("no service 'nosuch'"), service_reply())
    script.on("UpdateService", service_reply())
    script.on("WatchService", [failed(0, 1)])
    ran = pyswarm("service", "scale", "nosuch=2", "web=1")
    assert ran.code == ExitCode.CONVERGENCE_FAILED
    assert FAILURE in ran.err
    assert "no service 'nosuch'" in ran.err


@pytest.mark.parametrize(
    "ended", [pb.ServiceProgress(failure=FAILURE, alive=2), pb.ServiceProgress(converged=True)]
)
def test_a_removal_waits_until_the_service_is_gone_whatever_else_ends(
    ended: pb.ServiceProgress, script: Script, pyswarm: Pyswarm
) -> None:
    script.on("RemoveService", service_reply())
    script.on("WatchService", [ended, pb.ServiceProgress(alive=1), pb.ServiceProgress(gone=True)])
    ran = pyswarm("service", "rm", "web")
    assert (ran.code, ran.out) == (ExitCode.SUCCESS, "web\n")
    assert ran.err.splitlines()[-2:] == ["removing: 1 task left", "removing: 0 tasks left"]
    (request,) = script.requests("WatchService")
    assert (request.ref, request.follow) == (SERVICE_ID, True)


@pytest.mark.parametrize("verb", ["rm", "start"])
def test_a_bug_in_the_watch_ends_the_wait(
    verb: str, script: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("cli.client.Client.watch_service", broken)
    for rpc in ("RemoveService", "GetService", "UpdateService"):
        script.on(rpc, service_reply())
    ran = pyswarm("service", verb, "web")
    assert (ran.code, ran.out) == (ExitCode.FAILURE, "web\n")
    assert ran.err.startswith("Error: a bug of pyswarm at ")


def test_tasks_that_completed_are_what_was_asked(script: Script, pyswarm: Pyswarm) -> None:
    script.on("CreateService", service_reply())
    done = pb.ServiceProgress(desired=2, completed=2, converged=True)
    script.on("WatchService", [progress(0, 2), done])
    ran = pyswarm("service", "create", "--restart-condition", "none", "web")
    assert (ran.code, ran.err.splitlines()[-2:]) == (
        ExitCode.SUCCESS,
        ["overall progress: 2 out of 2 tasks (2 completed)", "verify: Service web completed"],
    )


def test_the_manual_has_the_table_of_exit_codes() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    rows = re.findall(r"^\| (\d+) \| `?(\w+)", text, re.MULTILINE)
    assert [(int(code), name) for code, name in rows] == [(code, code.name) for code in ExitCode]


def _python(program: str, **options: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-c", program],
        cwd=ROOT, capture_output=True, text=True, check=False, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments", [["--version"], ["service", "--help"], ["completion", "bash"]]
)
def test_output_that_cannot_be_written_is_named(arguments: list[str]) -> None:
    program = f"import sys; sys.argv[1:] = {arguments!r}; from cli.start import main; main()"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, stdout=full, stderr=subprocess.PIPE,
            text=True, check=False,
        )  # fmt: skip
    assert done.returncode == ExitCode.FAILURE
    assert done.stderr == "Error: cannot write output: No space left on device\n"


def test_the_interpreter_starts_with_ctrl_c_held_back(tmp_path: Path) -> None:
    command = tmp_path / "pyswarm"
    shutil.copy(ROOT / "scripts" / "pyswarm", command)
    stub = tmp_path / "python3"
    program = "import signal, sys; print(signal.pthread_sigmask(0, ())); print(*sys.argv[1:])"
    stub.write_text(f"#!{sys.executable}\n{program}\n")
    stub.chmod(0o755)
    link = tmp_path / "elsewhere"
    link.symlink_to(command)
    for path in (command, link):
        done = subprocess.run([path, "ls", "a b"], capture_output=True, text=True, check=True)
        mask, words = done.stdout.splitlines()
        assert "SIGINT" in mask
        assert words.startswith("-P -c ")
        assert words.endswith(" ls a b")


def test_a_ctrl_c_from_before_the_first_line_ends_the_command_silently() -> None:
    program = (
        "import os, signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT});"
        "os.kill(os.getpid(), signal.SIGINT);"
        "from cli.start import main; main()"
    )
    done = _python(program)
    assert (done.returncode, done.stdout, done.stderr) == (ExitCode.INTERRUPTED, "", "")


CTRL_C = "import os, signal; kill = lambda: os.kill(os.getpid(), signal.SIGINT);"
AT_AWKWARD_MOMENTS = {
    "twice": "try: kill()\n  except KeyboardInterrupt: kill()",
    "in a destructor": "type('A', (), {'__del__': lambda _: kill()})()",
    "in a cleanup": "try: kill()\n  finally: kill()",
    "once": "kill()",
}


@pytest.mark.parametrize("moment", AT_AWKWARD_MOMENTS)
def test_ctrl_c_prints_no_traceback(moment: str) -> None:
    program = (
        f"{CTRL_C} import cli.main as m\n"
        f"def run(words):\n  {AT_AWKWARD_MOMENTS[moment]}\n  print('not reached'); return 0\n"
        "m.run_and_flush = run\n"
        "m.main()"
    )
    done = _python(program)
    assert (done.returncode, done.stdout, done.stderr) == (ExitCode.INTERRUPTED, "", "")


def test_nobody_reading_either_stream_is_no_traceback() -> None:
    for line in (["bogus"], ["--help"]):
        reader, writer = os.pipe()
        os.close(reader)
        command = [sys.executable, "-m", "tests.unit.cli.entry", *line]
        done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=writer, check=False)
        os.close(writer)
        assert done.returncode == ExitCode.BROKEN_PIPE


def test_closed_streams_are_no_traceback() -> None:
    program = "from cli.start import main; main()"
    line = f'exec "{sys.executable}" -c "{program}" --help 0<&- 1>&-'
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (ExitCode.SUCCESS, b"")


def test_what_nobody_expected_is_one_line_that_says_where(
    script: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a\nb")

    monkeypatch.setattr("cli.client.Client.why", broken)
    ran = pyswarm("why", "web")
    assert (ran.code, ran.out) == (ExitCode.FAILURE, "")
    assert len(ran.err.splitlines()) == 1
    assert ran.err.startswith("Error: a bug of pyswarm at ")
    assert "test_endings.py:" in ran.err
