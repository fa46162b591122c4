"""Restart policies with backoff, crash loops, and what users do to services and tasks by hand."""

import json

import pytest

from pyswarm_core.clock import Instant
from pyswarm_core.docker.units import parse_time
from tests.e2e.acceptance.fleet import IMAGE, RUNNING, Fleet
from tests.e2e.acceptance.rollouts import create, ids

pytestmark = pytest.mark.slow


def test_the_delay_doubles_and_a_crash_loop_is_told(fleet: Fleet, service: str) -> None:
    fleet(
        *("service", "create", "-d", "--name", service, "--restart-delay", "100ms"),
        *("--restart-max-delay", "1h", "--entrypoint", "false", IMAGE),
    )
    fleet.until(lambda: len(_failed(fleet, service)) >= 5, "it failed five times")
    # The oldest may be removed meanwhile: the history has five.
    shown = [fleet.run("task", "inspect", task) for task in _failed(fleet, service)]
    tasks = [json.loads(done.out)[0] for done in shown if done.code == 0][:5]
    assert len(tasks) > 2
    tasks.sort(key=lambda task: str(task["CreatedAt"]))
    for number, task in enumerate(tasks[1:]):
        waited = _time(task["Status"]["Timestamp"]) - _time(task["CreatedAt"])
        assert waited >= 100_000_000 * 2**number, (number, waited)
    told = fleet("events", "--since", "10m", "--until", "0s")
    assert "crash_loop" in told or "crash loop" in told
    assert "crash loop" in fleet("why", service)


def _time(text: str) -> int:
    return parse_time(text, Instant(0))


def _failed(fleet: Fleet, service: str) -> list[str]:
    tasks = fleet.tasks(service)
    return [task["ID"] for task in tasks if task["CurrentState"].startswith("Failed")]


def test_a_service_is_stopped_and_started_with_its_replicas_kept(
    fleet: Fleet, service: str
) -> None:
    before = create(fleet, service, 3)
    fleet("service", "stop", service)
    assert [row["Replicas"] for row in fleet.rows("service", "ls")] == ["0/3 (stopped)"]
    fleet.until(lambda: not fleet.containers(), "no container is left")
    assert "stopped" in fleet("why", service)
    fleet("service", "scale", "-d", f"{service}=2")
    fleet("service", "start", service)
    after = ids(fleet, service)
    assert len(after) == 2
    assert not set(after) & set(before)


def test_a_restart_replaces_every_task_and_keeps_the_spec(fleet: Fleet, service: str) -> None:
    before = create(fleet, service, 2)
    fleet("service", "restart", service)
    after = ids(fleet, service)
    assert len(after) == 2
    assert not set(after) & set(before)


def test_a_task_is_restarted_stopped_and_signalled(fleet: Fleet, service: str) -> None:
    script = "trap 'echo reloaded' HUP; trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    fleet(
        *("service", "create", "-q", "--name", service, "--restart-condition", "on-failure"),
        *("--entrypoint", "sh", IMAGE, "-c", script),
    )
    (first,) = ids(fleet, service)
    fleet.until(lambda: "ready" in fleet("service", "logs", "--raw", service), "it traps them")
    fleet("task", "signal", "-s", "HUP", first)
    fleet.until(lambda: "reloaded" in fleet("service", "logs", "--raw", service), "it reloads")
    fleet("task", "restart", f"{service}.1")
    fleet.until(lambda: ids(fleet, service) not in ([first], []), "another task runs")
    (second,) = ids(fleet, service)
    fleet("task", "stop", second)
    fleet.until(lambda: not ids(fleet, service), "it ended")
    # It ended by itself with exit code 0: the policy does not replace it.
    (task,) = [task for task in fleet.tasks(service) if task["ID"] == second]
    assert task["CurrentState"].startswith("Complete")
    assert not fleet.tasks(service, RUNNING) or ids(fleet, service) == []


def test_signals_and_tasks_that_do_not_exist_are_refused(fleet: Fleet, service: str) -> None:
    (task,) = create(fleet, service, 1)
    assert "SIGNOPE" in fleet.refused("task", "signal", "-s", "SIGNOPE", task)
    assert "no such task" in fleet.refused("task", "restart", "nothing.1")
    assert ids(fleet, service) == [task]
