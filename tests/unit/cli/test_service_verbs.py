"""Rollback, history, restart, stop and start of services, restart of tasks; waits for updates."""

import json
import threading
from collections.abc import Iterator, Sequence

import pytest
from msgspec.structs import replace

from cli.exits import ExitCode
from cli.render.screen import Screen
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1.dispatcher_pb2 import TaskChecks
from pyswarm_core.clock import MINUTE, Instant
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.errors import Conflict, NotFound, Unavailable
from pyswarm_core.objects import HealthState, PreviousSpec, Service, UpdateStatus
from pyswarm_core.specs import ContainerSpec, HealthConfig, ServiceSpec, TaskSpec, UpdateConfig
from pyswarm_core.states import UpdateState
from pyswarm_core.views import CheckResult, TaskCheck
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.golden import assert_golden
from tests.unit.cli.objects import (
    CREATED,
    NOW,
    SERVICE_ID,
    progress,
    service,
    service_reply,
    tasks_reply,
)
from tests.unit.cli.scripted import Script

FAILED = "update paused due to failure or early termination of task t1"
STOPPED = "service web is stopped: `pyswarm service start web` starts it"
ROLLED_BACK = "update rolled back due to failure or early termination of task t1"


def at(version: int, **changes: object) -> Service:
    """The service with that version of its spec."""
    return replace(service(**changes), spec_version=version)  # type: ignore[arg-type]


@pytest.fixture
def fleet(script: Script) -> Script:
    for rpc in ("GetService", "UpdateService", "RollbackService"):
        script.on(rpc, service_reply(at(4)))
    return script.on("WatchService", [progress(3, 3)])


def moment(
    running: int, state: UpdateState, *, message: str = "", to: int = 4, failure: str = ""
) -> pb.ServiceProgress:
    """A moment of an update of three tasks to version `to`."""
    shown = progress(running, 3)
    shown.update_state, shown.update_message, shown.update_to = state.value, message, to
    shown.converged = state in (UpdateState.COMPLETED, UpdateState.ROLLBACK_COMPLETED)
    shown.failure = failure
    return shown


@pytest.mark.parametrize("line", ["rollback --to 2 web", "rollback web", "update --rollback web"])
def test_a_rollback_names_its_version_and_the_service_it_is_based_on(
    line: str, fleet: Script, pyswarm: Pyswarm
) -> None:
    ran = pyswarm("service", *line.split())
    assert (ran.code, ran.out) == (0, "web\n")
    assert ran.err.endswith("verify: Service web converged\n")
    (sent,) = fleet.requests("RollbackService")
    assert (sent.ref, sent.version.index) == (SERVICE_ID, 3)
    assert sent.to == (2 if "--to" in line else 0)


def test_a_rollback_that_lost_the_race_is_made_again(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("RollbackService", Conflict("update out of sequence"), service_reply(at(4)))
    assert pyswarm("service", "rollback", "-d", "-q", "web").code == 0
    assert len(fleet.requests("RollbackService")) == 2


def test_an_old_controller_is_named(script: Script, pyswarm: Pyswarm) -> None:
    script.on("GetService", service_reply())
    for line in ("service rollback web", "service update --rollback web", "task restart web.1"):
        ran = pyswarm(*line.split())
        assert (ran.code, ran.out) == (1, "")
        assert ran.err.startswith("Error: the controller at unix://")
        assert ran.err.endswith("does not support this command: upgrade it\n")


def test_update_without_flags_resumes_and_changes_nothing(fleet: Script, pyswarm: Pyswarm) -> None:
    ran = pyswarm("service", "update", "web")
    assert (ran.code, ran.out) == (0, "web\n")
    (sent,) = fleet.requests("UpdateService")
    assert from_proto(ServiceSpec, sent.spec) == service().spec


@pytest.mark.parametrize(
    ("verb", "stopped", "force_update"),
    [("stop", True, 0), ("start", False, 0), ("restart", False, 1)],
)
def test_services_are_stopped_started_and_restarted_by_their_spec(
    verb: str, stopped: bool, force_update: int, fleet: Script, pyswarm: Pyswarm
) -> None:
    fleet.on("GetService", service_reply(at(4, stopped=verb == "start")))
    ran = pyswarm("service", verb, "web", "web")
    assert (ran.code, ran.out) == (0, "web\n")
    (sent,) = fleet.requests("UpdateService")
    assert sent.spec.stopped == stopped
    assert sent.spec.mode.replicated.replicas == 3
    assert sent.spec.task_template.force_update == force_update


def test_one_that_does_not_exist_does_not_keep_the_others_running(
    fleet: Script, pyswarm: Pyswarm
) -> None:
    fleet.on("GetService", NotFound("no service 'nosuch'"), service_reply(at(4)))
    ran = pyswarm("service", "stop", "-d", "nosuch", "web")
    assert (ran.code, ran.out, ran.err) == (1, "web\n", "Error: no service 'nosuch'\n")


def test_a_stopped_service_is_started_and_not_restarted(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("GetService", service_reply(at(4, stopped=True)))
    ran = pyswarm("service", "restart", "web")
    assert (ran.code, fleet.requests("UpdateService")) == (ExitCode.FAILURE, [])
    assert ran.err == f"Error: {STOPPED}\n"


@pytest.mark.parametrize(
    "line", ["scale web=5", "update --env-add A=1 web", "update --rollback web", "rollback web"]
)
def test_a_change_of_a_stopped_service_says_that_it_is_stopped(
    line: str, fleet: Script, pyswarm: Pyswarm
) -> None:
    for rpc in ("GetService", "UpdateService", "RollbackService"):
        fleet.on(rpc, service_reply(at(4, stopped=True)))
    fleet.on("WatchService", [progress(0, 0)])
    ran = pyswarm("service", *line.split())
    assert (ran.code, ran.err.splitlines()) == (
        0,
        [STOPPED, "overall progress: 0 out of 0 tasks", "verify: Service web converged"],
    )
    assert pyswarm("service", "stop", "-d", "web").err == ""


def test_a_restarted_tasks_service_is_waited_for(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("RestartTask", tasks_reply().tasks[1])
    fleet.on("WatchService", [progress(2, 3), progress(3, 3)])
    ran = pyswarm("task", "restart", "web.1", "web.2")
    assert (ran.code, ran.out) == (0, "web.1\nweb.2\n")
    assert [one.ref for one in fleet.requests("RestartTask")] == ["web.1", "web.2"]
    assert ran.err.endswith("verify: Service web converged\n")
    assert pyswarm("task", "restart", "-d", "web.1").err == ""


def test_signals_and_stops_name_their_task(script: Script, pyswarm: Pyswarm) -> None:
    script.on("SignalTask", Conflict("task web.1 does not run: it is failed"), pb.SignalTaskReply())
    ran = pyswarm("task", "stop", "web.1", "web.2")
    assert (ran.code, ran.out) == (1, "web.2\n")
    assert ran.err == "Error: task web.1 does not run: it is failed\n"
    assert pyswarm("task", "signal", "-s", "HUP", "web.3").out == "web.3\n"
    asked = [(one.ref, one.signal, one.stop) for one in script.requests("SignalTask")]
    assert asked == [("web.1", "", True), ("web.2", "", True), ("web.3", "HUP", False)]


def test_a_task_has_its_checks_with_their_last_results(script: Script, pyswarm: Pyswarm) -> None:
    reply = tasks_reply()
    view = reply.tasks[1]
    view.task.detail.health = "unhealthy"
    del reply.tasks[0]
    check = TaskCheck(
        kind="health",
        config=HealthConfig(test=("TCP", "80"), interval=30_000_000_000, retries=3),
        state=HealthState.UNHEALTHY,
        failing_streak=4,
        results=(
            CheckResult(started_at=CREATED, duration=1_500_000_000, exit_code=-1, output="timeout"),
        ),
    )
    checks = TaskChecks()
    to_proto(check, checks.checks.add())
    script.on("ListTasks", reply).on("TaskChecks", checks)
    status = json.loads(pyswarm("task", "inspect", "web.1").out)[0]["Status"]
    assert status["Health"] == {
        "Status": "unhealthy",
        "FailingStreak": 4,
        "Config": {"Test": ["TCP", "80"], "Interval": 30_000_000_000, "Retries": 3},
        "Log": [
            {
                "Start": "2023-11-14T22:13:20.000000000Z",
                "End": "2023-11-14T22:13:21.500000000Z",
                "ExitCode": -1,
                "Output": "timeout",
            }
        ],
    }
    script.on("TaskChecks", Unavailable("node host1 is down"))
    ran = pyswarm("task", "inspect", "web.1", "-f", "{{.Status.Health.Status}}")
    assert (ran.code, ran.out) == (0, "unhealthy\n")
    assert ran.err == "warning: the results of checks of web.1 are missing: node host1 is down\n"


def test_a_task_without_checks_is_not_asked_for_them(script: Script, pyswarm: Pyswarm) -> None:
    script.on("ListTasks", tasks_reply())
    ran = pyswarm("task", "inspect", "web.1")
    assert (ran.code, ran.err, script.requests("TaskChecks")) == (0, "", [])
    assert "Health" not in json.loads(ran.out)[0]["Status"]


def test_the_wait_for_an_update_tells_its_steps(fleet: Script, pyswarm: Pyswarm) -> None:
    stable, later = moment(3, UpdateState.UPDATING), moment(3, UpdateState.UPDATING)
    stable.stable_in, later.stable_in = 4_200_000_000, 2_000_000_000
    fleet.on(
        "WatchService",
        [moment(1, UpdateState.UPDATING), stable, later, moment(3, UpdateState.COMPLETED)],
    )
    ran = pyswarm("service", "update", "--image", "web:2", "web")
    assert (ran.code, ran.err.splitlines()) == (
        0,
        [
            "overall progress: 1 out of 3 tasks",
            "overall progress: 3 out of 3 tasks",
            "verify: Waiting 5 seconds to verify that tasks are stable...",
            "verify: Service web converged",
        ],
    )


def test_a_terminal_counts_the_seconds(
    fleet: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = threading.Event()
    draw = Screen.draw

    def seen(screen: Screen, shown: Sequence[str]) -> str:
        if shown[-1].startswith("verify: Waiting 4 seconds"):
            drawn.set()
        return draw(screen, shown)

    def moments(_: object) -> Iterator[pb.ServiceProgress]:
        stable = moment(3, UpdateState.UPDATING)
        stable.stable_in = 4_050_000_000
        yield stable
        assert drawn.wait(60)
        yield moment(3, UpdateState.COMPLETED)

    monkeypatch.setattr("cli.converge._TICK_S", 0.01)
    monkeypatch.setattr("cli.converge.Screen.draw", seen)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    fleet.on("WatchService", moments)
    ran = pyswarm("service", "update", "--force", "web")
    assert ran.code == 0
    assert "verify: Waiting 5 seconds to verify that tasks are stable..." in ran.err
    assert ran.err.endswith("verify: Service web converged\n\x1b[J")


@pytest.mark.parametrize(
    ("state", "kind"),
    [(UpdateState.PAUSED, "update"), (UpdateState.ROLLBACK_PAUSED, "rollback")],
)
def test_the_wait_ends_when_the_update_is_paused(
    state: UpdateState, kind: str, fleet: Script, pyswarm: Pyswarm
) -> None:
    paused = moment(1, state, message=FAILED)
    fleet.on("WatchService", [moment(0, UpdateState.UPDATING), paused])
    ran = pyswarm("service", "update", "--image", "web:2", "web")
    assert (ran.code, ran.out) == (ExitCode.CONVERGENCE_FAILED, "web\n")
    assert ran.err.splitlines()[-1] == (
        f"Error: service web {kind} paused: {FAILED};"
        " `pyswarm service update web` resumes it, see `pyswarm why web`"
    )


def test_the_wait_for_an_update_that_is_rolled_back_ends_when_the_rollback_has(
    fleet: Script, pyswarm: Pyswarm
) -> None:
    fleet.on(
        "WatchService",
        [
            moment(1, UpdateState.UPDATING),
            moment(2, UpdateState.ROLLBACK_STARTED, message=ROLLED_BACK, to=5),
            moment(3, UpdateState.ROLLBACK_COMPLETED, message="rollback completed", to=5),
        ],
    )
    ran = pyswarm("service", "update", "--image", "web:2", "web")
    assert ran.code == ExitCode.CONVERGENCE_FAILED
    assert ran.err.splitlines() == [
        "overall progress: 1 out of 3 tasks",
        f"rollback: {ROLLED_BACK}",
        "overall progress: rolling back update: 2 out of 3 tasks",
        "overall progress: 3 out of 3 tasks",
        f"Error: service web rolled back: {ROLLED_BACK}",
    ]


@pytest.mark.parametrize("line", ["rollback web", "scale web=3"])
def test_a_rollback_that_was_requested_or_is_over_is_no_failure(
    line: str, fleet: Script, pyswarm: Pyswarm
) -> None:
    done = moment(3, UpdateState.ROLLBACK_COMPLETED, message="rollback completed", to=4)
    fleet.on("WatchService", [done])
    assert pyswarm("service", *line.split()).code == 0


@pytest.mark.parametrize(
    ("line", "state", "kind"),
    [
        ("scale web=3", UpdateState.PAUSED, "update"),
        ("start web", UpdateState.ROLLBACK_PAUSED, "rollback"),
        ("update --replicas 3 web", UpdateState.PAUSED, "update"),
    ],
)
def test_what_a_paused_update_does_not_concern_is_complete_while_it_is_paused(
    line: str, state: UpdateState, kind: str, fleet: Script, pyswarm: Pyswarm
) -> None:
    paused = replace(at(4), update_status=UpdateStatus(state=state, message=FAILED))
    fleet.on("UpdateService", service_reply(paused))
    begins, ends = moment(2, state, message=FAILED), moment(3, state, message=FAILED)
    begins.updated = ends.updated = 1
    ends.filled = True
    fleet.on("WatchService", [begins, ends])
    ran = pyswarm("service", *line.split())
    assert (ran.code, ran.err.splitlines()) == (
        0,
        [
            "overall progress: 2 out of 3 tasks",
            "overall progress: 3 out of 3 tasks",
            f"{kind} of web is still paused: pyswarm service update web resumes it",
        ],
    )
    (watch,) = fleet.requests("WatchService")
    assert watch.follow


def test_a_pause_does_not_end_the_wait_for_a_task_that_was_restarted(
    fleet: Script, pyswarm: Pyswarm
) -> None:
    fleet.on("RestartTask", tasks_reply().tasks[1])
    begins, ends = [moment(n, UpdateState.PAUSED, message=FAILED) for n in (2, 3)]
    ends.filled = True
    fleet.on("WatchService", [begins, ends])
    ran = pyswarm("task", "restart", "-q", "web.1")
    assert (ran.code, ran.err) == (
        0,
        "update of web is still paused: pyswarm service update web resumes it\n",
    )


def test_a_pause_hides_no_failure_of_tasks(fleet: Script, pyswarm: Pyswarm) -> None:
    paused = UpdateStatus(state=UpdateState.PAUSED, message=FAILED)
    fleet.on("UpdateService", service_reply(replace(at(4), update_status=paused)))
    failure = "web.4 has ended 3 times; at last it failed: exit code 1"
    failing = moment(2, UpdateState.PAUSED, message=FAILED, failure=failure)
    fleet.on("WatchService", [failing])
    ran = pyswarm("service", "scale", "web=3")
    assert ran.code == ExitCode.CONVERGENCE_FAILED
    assert ran.err.splitlines()[-1].startswith(f"Error: service web cannot converge: {failure}")


def test_a_paused_service_that_is_stopped_has_converged(fleet: Script, pyswarm: Pyswarm) -> None:
    gone = pb.ServiceProgress(converged=True, update_state="paused", update_message=FAILED)
    fleet.on("WatchService", [gone])
    assert pyswarm("service", "stop", "web").code == 0


def version(number: int, **changes: object) -> PreviousSpec:
    created = Instant(CREATED + number * 10_000_000_000)
    return PreviousSpec(version=number, spec=service(**changes).spec, created_at=created)  # type: ignore[arg-type]


def template(image: str, **fields: object) -> TaskSpec:
    return TaskSpec(container_spec=ContainerSpec(image=image, **fields))  # type: ignore[arg-type]


HISTORY = replace(
    at(
        5,
        task_template=template(
            "web:3@sha256:" + "b" * 64, env=("A=2", "C=3"), hostname="h", user="app", dir="/srv",
            tty=True,
        ),
        labels={"tier": "front"},
    ),
    previous_specs=(
        version(
            4,
            task_template=template("web:2", env=("A=1",)),
            update_config=UpdateConfig(delay=10_000_000_000),
        ),
        version(3, task_template=template("web:2"), replicas=5),
        version(1, task_template=template("web:1"), replicas=5),
    ),
    updated_at=Instant(CREATED + MINUTE),
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "flags"), [("service_history", ""), ("service_history_diff", "--diff")]
)
def test_history_shows_what_each_version_changed(
    name: str, flags: str, script: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyswarm_core.aio.system.SystemClock.now", lambda _: NOW)
    script.on("GetService", service_reply(HISTORY))
    ran = pyswarm("service", "history", *flags.split(), "web")
    assert (ran.code, ran.err) == (0, "")
    assert_golden(name, ran.out)


def test_history_takes_templates(script: Script, pyswarm: Pyswarm) -> None:
    script.on("GetService", service_reply(HISTORY))
    ran = pyswarm("service", "history", "--format", "{{.Version}} {{.Image}} {{.Current}}", "web")
    assert ran.out.splitlines()[:2] == ["5 web:3 true", "4 web:2 false"]


def test_a_service_that_never_changed_has_a_history_of_one(
    script: Script, pyswarm: Pyswarm
) -> None:
    script.on("GetService", service_reply(at(1)))
    assert pyswarm("service", "history", "--format", "{{.Version}}", "web").out == "1\n"
    assert pyswarm("service", "history", "--diff", "web").out == ""
