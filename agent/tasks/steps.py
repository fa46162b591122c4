"""A step of a task: the record after an event, and effects. PURE.

The parts of the task machine share what is here: `machine.py` (the events, and all up to the
start), `serving.py`, `stopping.py` and `ending.py`.
"""

from collections.abc import Callable, Mapping

import msgspec
from msgspec.structs import replace

from agent.health.verdict import Check
from agent.tasks.events import Effect
from agent.tasks.record import Record
from pyswarm_core.clock import SECOND
from pyswarm_core.states import TRANSITIONS, InvalidTransition, TaskState, lives

KILL_AGAIN = 2 * SECOND
"""The period at which SIGKILL is repeated until the exit is seen: sending it may fail, and a
process in uninterruptible sleep does not end at once.
"""


class Step(msgspec.Struct, frozen=True):
    """The result of one step. TimerFired is due at `record.wake_at`."""

    record: Record
    effects: tuple[Effect, ...] = ()


def with_checks(record: Record, change: Callable[[Check], Check]) -> Record:
    """The record with a change of each of its checks."""
    health = change(record.health) if record.health else None
    readiness = change(record.readiness) if record.readiness else None
    if health is record.health and readiness is record.readiness:
        return record
    return replace(record, health=health, readiness=readiness)


NO_LOGIN: Mapping[str, object] = {"login": None, "has_login": False, "awaits_login": False}
"""The changes of a task whose image is pulled, or will not be."""


def transition(record: Record, state: TaskState, message: str, **changes: object) -> Record:
    """The record in another state. Raises InvalidTransition if no step may lead there."""
    if (record.state, state) not in TRANSITIONS:
        raise InvalidTransition(
            f"{record.name} ({record.task_id}) cannot move from {record.state.word}"
            f" to {state.word}; it is {record.detail.message!r},"
            f" desired {record.desired_state.word}"
        )
    detail = replace(record.detail, message=message)
    return replace(record, **{"state": state, "detail": detail, **changes})


def end_task(record: Record, state: TaskState, message: str, **detail: object) -> Step:
    """The end of a task; container and network are removed next."""
    ended = transition(record, state, message, **NO_LOGIN)
    detail = {"serving": False, "paused": False, **detail}
    return Step(replace(ended, detail=replace(ended.detail, **detail)), (Effect.CLEAN,))


def should_run(record: Record) -> bool:
    """Whether its desired state keeps a container."""
    return lives(record.desired_state)
