"""A task's registry login: in memory until its image is pulled, never on disk."""

import msgspec
import pytest
from msgspec.structs import replace

from agent.tasks import events
from agent.tasks.events import Effect
from agent.tasks.record import Record
from pyswarm_core.specs import RegistryLogin
from pyswarm_core.states import TaskState
from tests.unit.agent.tasks.test_machine import PREPARED, record, run

LOGIN = RegistryLogin(registry="docker.io", username="ann-of-docker", password="hidden")
PULLS, _ = run(record(login=LOGIN), events.Accepted())
WAITS = "waiting for the registry login of its service"


def restarted(kept: Record) -> Record:
    """The record as a restarted agent reads it."""
    return msgspec.json.decode(msgspec.json.encode(kept.durable), type=Record)


def test_a_record_on_disk_has_no_login() -> None:
    assert PULLS.login == LOGIN
    assert b"hidden" not in msgspec.json.encode(PULLS.durable)
    assert b"ann-of-docker" not in msgspec.json.encode(PULLS.durable)
    without = record(TaskState.PREPARING)
    assert without.durable is without


@pytest.mark.parametrize("received_first", [False, True])
def test_a_restarted_agent_waits_for_the_login(received_first: bool) -> None:
    found = restarted(PULLS)
    assert found.lacks_login
    received = events.LoginReceived(LOGIN)
    if received_first:  # while what the former agent left is removed
        found, effects = run(found, received)
        assert (effects, found.login) == ([], LOGIN)
        again, effects = run(found, events.Accepted())
    else:
        found, effects = run(found, events.Accepted())
        assert (effects, found.detail.message, found.state) == ([], WAITS, TaskState.PREPARING)
        again, effects = run(found, received)
    assert (effects, again.login) == ([Effect.PREPARE], LOGIN)
    assert run(again, received) == (again, []), "nothing is prepared twice"
    ready, _ = run(again, PREPARED)
    assert (ready.login, ready.has_login, ready.awaits_login) == (None, False, False)


def test_an_agent_that_restarts_while_it_waits_waits_again() -> None:
    waiting, _ = run(restarted(PULLS), events.Accepted())
    found = restarted(waiting)
    assert run(found, events.LoginReceived(LOGIN))[1] == [], "the removal is not complete"
    assert run(found, events.Accepted())[0].detail.message == WAITS


def test_a_service_that_needs_no_login_any_more_is_prepared_without() -> None:
    waiting, _ = run(restarted(PULLS), events.Accepted())
    again, effects = run(waiting, events.LoginReceived(None))
    assert (effects, again.login, again.lacks_login) == ([Effect.PREPARE], None, False)


def test_a_task_that_waits_ends_when_it_should_not_run() -> None:
    waiting, _ = run(restarted(PULLS), events.Accepted())
    stopped, effects = run(waiting, events.Desired(TaskState.SHUTDOWN))
    assert effects == [Effect.ABORT_PREPARE]
    ended, _ = run(stopped, events.PrepareAborted())
    assert ended.state is TaskState.SHUTDOWN
    assert run(ended, events.LoginReceived(LOGIN)) == (ended, [])
    assert ended.durable == replace(ended, login=None)
