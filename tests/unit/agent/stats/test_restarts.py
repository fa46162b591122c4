"""What counts as a restart of a slot."""

from msgspec.structs import replace

from agent.stats import restarts as module
from agent.stats.restarts import Restarts
from agent.tasks.record import Record
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.states import TaskState
from tests.fixtures.records import record


def ready(name: str, slot: int = 1, version: int = 1) -> Record:
    return record(
        name, slot=slot, spec_version=version, state=TaskState.STARTING, started_at=Instant(0)
    )


def started(restarts: Restarts, before: Record) -> Record:
    after = replace(before, state=TaskState.RUNNING, started_at=Instant(SECOND))
    restarts.moved(before, after)
    return after


def ended(restarts: Restarts, before: Record) -> None:
    restarts.moved(before, replace(before, state=TaskState.FAILED))


def test_a_task_that_follows_one_that_ended_is_a_restart() -> None:
    restarts = Restarts()
    first = started(restarts, ready("t1"))
    assert restarts.of(first) == 0
    ended(restarts, first)
    second = started(restarts, ready("t2"))
    assert restarts.of(second) == 1
    ended(restarts, second)
    assert restarts.of(started(restarts, ready("t3"))) == 2


def test_a_task_of_another_spec_is_an_update() -> None:
    restarts = Restarts()
    ended(restarts, started(restarts, ready("t1", version=1)))
    updated = started(restarts, ready("t2", version=2))
    assert restarts.of(updated) == 0
    ended(restarts, updated)
    assert restarts.of(started(restarts, ready("t3", version=2))) == 1


def test_slots_are_counted_apart() -> None:
    restarts = Restarts()
    ended(restarts, started(restarts, ready("t1", slot=1)))
    assert restarts.of(started(restarts, ready("t2", slot=2))) == 0


def test_a_task_that_never_started_is_none() -> None:
    restarts = Restarts()
    ended(restarts, ready("t1"))
    assert restarts.of(started(restarts, ready("t2"))) == 0


def test_a_task_that_an_earlier_agent_started_counts_when_it_ends() -> None:
    restarts = Restarts()
    ended(restarts, record("t1"))
    assert restarts.of(started(restarts, ready("t2", version=0))) == 1


def test_what_is_remembered_is_bounded(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(module, "NODE_TASKS_LIMIT", 2)
    restarts = Restarts()
    for slot in (1, 2, 3):
        ended(restarts, started(restarts, ready("t", slot=slot)))
    found = [restarts.of(started(restarts, ready("u", slot=slot))) for slot in (1, 2, 3)]
    assert found == [0, 1, 1]
