"""`run` and `start` in the foreground: what they attach to, and how they end."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from cli.container import foreground
from cli.container.lifecycle.change import NotStarted
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.codec import from_proto
from pyswarm_core.errors import Conflict, causes
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.states import TaskState
from pyswarm_core.streams.frames import Exit
from pyswarm_core.streams.requests import AttachRequest
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import SERVICE_ID, progress, service_reply
from tests.unit.cli.scripted import Script
from tests.unit.cli.test_containers import container, reply

Talk = list[Exit | Exception]


@pytest.fixture
def attached(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[Any]]]:
    """Sets how the attached streams end, in turn; returns what was requested."""
    requested: list[Any] = []
    answers: Talk = []

    async def converse(client: object, operation: object, request: object, stdio: object) -> Exit:
        requested.append((request, stdio))
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def script(*given: Exit | Exception) -> list[Any]:
        answers.extend(given)
        return requested

    monkeypatch.setattr("cli.streams.program.converse", converse)
    yield script
    assert answers == []


@pytest.fixture
def fleet(script: Script) -> Script:
    script.on("CreateService", service_reply(container()))
    script.on("UpdateService", service_reply(container()))
    script.on("GetService", service_reply(container(stopped=True)))
    script.on("GetContainer", reply(container(stopped=True), TaskState.COMPLETE))
    return script.on("WatchService", [progress(1, 1)])


def spec(fleet: Script, rpc: str = "CreateService") -> ServiceSpec:
    return from_proto(ServiceSpec, fleet.requests(rpc)[-1].spec)


def test_the_exit_code_of_the_container_is_that_of_the_command(
    fleet: Script, pyswarm: Pyswarm, attached: Callable[..., list[Any]]
) -> None:
    requested = attached(Exit(7))
    ran = pyswarm("run", "-i", "web")
    assert (ran.code, ran.out, ran.err) == (7, "", "")
    ((request, stdio),) = requested
    assert request == AttachRequest(ref=SERVICE_ID, stdin=True, wait=True)
    assert (stdio.stdin, stdio.terminal, len(stdio.signals) > 3) == (True, False, True)
    made = spec(fleet).task_template.container_spec
    assert (made.open_stdin, made.stdin_once, made.attach_by > 0) == (True, True, True)


def test_a_container_in_the_background_waits_for_nobody(fleet: Script, pyswarm: Pyswarm) -> None:
    assert pyswarm("run", "-di", "web").code == 0
    made = spec(fleet).task_template.container_spec
    assert (made.open_stdin, made.stdin_once, made.attach_by) == (True, False, 0)


@pytest.mark.parametrize(
    ("flags", "stdin", "stdout", "stderr", "signals"),
    [
        ("", False, True, True, True),
        ("-a stdout", False, True, False, True),
        ("-i -a STDERR", False, False, True, True),
        ("-i -a stdin -a stdout", True, True, False, True),
        ("--sig-proxy=false", False, True, True, False),
    ],
)
def test_streams_that_are_not_attached_are_dropped(
    flags: str,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    signals: bool,
    fleet: Script,
    pyswarm: Pyswarm,
    attached: Callable[..., list[Any]],
) -> None:
    requested = attached(Exit(0))
    assert pyswarm("run", *flags.split(), "web").code == 0
    ((request, stdio),) = requested
    assert request.stdin == stdio.stdin == stdin
    shown = (stdio.stdout is None, stdio.stderr is None, bool(stdio.signals))
    assert shown == (stdout, stderr, signals)


def test_it_attaches_once_the_task_has_a_node(
    fleet: Script, pyswarm: Pyswarm, attached: Callable[..., list[Any]]
) -> None:
    waits = progress(0, 1, state=TaskState.PENDING)
    waits.slots[0].message = "no node has 8 CPUs"
    fleet.on("WatchService", [waits, progress(0, 1), progress(1, 1)])
    requested = attached(Conflict("service db has no running task"), Exit(3))
    ran = pyswarm("run", "web")
    assert (ran.code, len(requested)) == (3, 2)
    assert "no node has 8 CPUs" in ran.err


REASON = 'exec: "/nope": stat /nope: no such file or directory'


def test_a_command_that_does_not_exist_ends_with_127(
    fleet: Script, pyswarm: Pyswarm, attached: Callable[..., list[Any]]
) -> None:
    attached(Exit(0, REASON))
    ran = pyswarm("run", "web")
    assert (ran.code, ran.err) == (127, f"Error: {REASON}\n")


def test_a_container_that_removes_itself_is_waited_for(
    fleet: Script, pyswarm: Pyswarm, attached: Callable[..., list[Any]]
) -> None:
    attached(Exit(5))
    gone = pb.ServiceProgress(gone=True)
    fleet.on("WatchService", [progress(1, 1)], [progress(1, 1), gone])
    assert pyswarm("run", "--rm", "web").code == 5
    assert (
        len(fleet.requests("WatchService")) >= 2
    )  # of the start, which a thread watches, and of the removal
    assert spec(fleet).mode == container(auto_remove=True).spec.mode


def test_a_terminal_needs_one(fleet: Script, pyswarm: Pyswarm, tmp_path: object) -> None:
    with open("/dev/null") as nothing, pytest.MonkeyPatch.context() as patch:  # noqa: PTH123
        patch.setattr("sys.stdin", nothing)
        ran = pyswarm("run", "-it", "web")
    assert (ran.code, fleet.asked) == (125, [])
    assert "the input device is not a TTY" in ran.err


def test_start_attaches_to_what_it_starts(
    fleet: Script, pyswarm: Pyswarm, attached: Callable[..., list[Any]]
) -> None:
    requested = attached(Exit(6))
    assert pyswarm("start", "-a", "db").code == 6
    ((request, _),) = requested
    assert request == AttachRequest(ref=SERVICE_ID, wait=True)
    started = spec(fleet, "UpdateService")
    assert started.stopped is False
    assert started.task_template.container_spec.attach_by > 0


def test_start_attaches_to_one_container_that_does_not_run(fleet: Script, pyswarm: Pyswarm) -> None:
    assert "multiple containers" in pyswarm("start", "-a", "db", "other").err
    fleet.on("GetContainer", reply())
    assert "runs already" in pyswarm("start", "-a", "db").err
    assert fleet.requests("UpdateService") == []


async def test_a_task_that_was_rejected_at_once_is_named_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stream may end before the reason is known."""

    class Start:
        def __init__(self) -> None:
            self.placed = asyncio.Event()
            self.placed.set()
            self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def refused(*_: object) -> Exit:
        raise Conflict("container db is not running")

    monkeypatch.setattr("cli.streams.program.converse", refused)
    nothing: Any = None
    start: Any = Start()
    talk = asyncio.create_task(foreground._talk(nothing, nothing, nothing, start))
    await asyncio.sleep(0)
    start.failed.set_result("bind source path does not exist: /x")
    with pytest.raises(NotStarted, match="bind source path"):
        await talk
    monkeypatch.setattr(foreground, "REPORTED_WITHIN_S", 0.0)
    with pytest.raises(Conflict):
        await foreground._talk(nothing, nothing, nothing, cast("Any", Start()))


async def test_the_reason_ends_a_stream_that_is_refused_while_it_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A group of tasks that has an error when it is cancelled raises the error alone."""
    reason = "image web:1: image-subpath: no such file or directory: x"

    async def refused(*_: object) -> Exit:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise Conflict("container web is not running") from None
        raise AssertionError

    def watch(start: foreground._Start) -> None:
        start._set()
        start._loop.call_later(0.01, foreground._settle, start.failed, reason)

    monkeypatch.setattr("cli.streams.program.converse", refused)
    monkeypatch.setattr(foreground._Start, "watch", watch)
    nothing: Any = None
    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(foreground._conversation(nothing, nothing, nothing, nothing), 30)
    assert str(next(causes(raised.value))) == reason
