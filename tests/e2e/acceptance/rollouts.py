"""What is seen of an update: its status, its tasks, and how many of them it replaced."""

import json
from collections.abc import Sequence
from typing import Any

from tests.e2e.acceptance.fleet import COMMAND_LIMIT_S, IMAGE, Fleet
from tests.fixtures import commands
from tests.fixtures.commands import Done

CONVERGENCE_FAILED = 4
BROKEN = ("--entrypoint", "/nothing")
"""Flags of a version whose tasks cannot start."""
QUICK = ("--update-monitor", "200ms", "--rollback-monitor", "200ms", "--restart-delay", "200ms")


def create(fleet: Fleet, service: str, replicas: int, *flags: str) -> list[str]:
    """Create a service of the web server; the ids of its tasks."""
    words = ("service", "create", "-q", "--name", service, "--replicas", str(replicas))
    fleet(*words, *QUICK, *flags, IMAGE)
    return ids(fleet, service)


def ids(fleet: Fleet, service: str) -> list[str]:
    """The ids of the tasks that run and should, by slot."""
    return [task["ID"] for task in sorted(fleet.running(service), key=lambda t: t["Name"])]


def status(fleet: Fleet, service: str) -> dict[str, str]:
    """UpdateStatus as `service inspect` shows it; empty if the service was never updated."""
    (found,) = json.loads(fleet("service", "inspect", service))
    return dict(found.get("UpdateStatus") or {})


def reaches(fleet: Fleet, service: str, state: str) -> dict[str, str]:
    """Wait until the update has that state; its status."""
    fleet.until(lambda: status(fleet, service).get("State") == state, f"its update is {state}")
    return status(fleet, service)


def fails(fleet: Fleet, *words: str) -> Done:
    """A command that waits and ends with the exit code for a service that cannot converge."""
    done = fleet.run(*words)
    assert done.code == CONVERGENCE_FAILED, f"{words}: {done}"
    return done


def ends_within(fleet: Fleet, seconds: float, *words: str) -> None:
    """Run a command that must succeed, and may not wait for longer than that."""
    done = commands.run(words, fleet.environment, min(seconds, COMMAND_LIMIT_S))
    assert done.code == 0, f"{words}: {done}"


def templates(fleet: Fleet, tasks: Sequence[str]) -> list[dict[str, Any]]:
    """What those tasks were made from."""
    return [fleet.task(task)["Spec"]["ContainerSpec"] for task in tasks]


def unfinished(fleet: Fleet, service: str) -> list[dict[str, str]]:
    """Tasks that should run and do not yet."""
    tasks = fleet.tasks(service, "desired-state=running")
    return [task for task in tasks if not task["CurrentState"].startswith("Running")]
