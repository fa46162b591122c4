"""What is known of one update, as far as decisions have shown it."""

import msgspec

from pyswarm_core.clock import Instant
from pyswarm_core.ids import TaskId
from pyswarm_core.objects import Task, UpdateStatus


class Slot(msgspec.Struct):
    """What one update did to one slot, as far as decisions have shown it."""

    first: TaskId = TaskId("")
    """Its first task of the new template."""
    proven: bool = False
    """A new task has served: the slot is no longer in flight."""
    failed: bool = False
    """Its first new task failed."""
    may_have_failed: bool = False
    """One of its new tasks did."""
    stopped: bool = False
    """The update stopped its old task."""
    told: bool = False
    """Its first new task was told to end before it ended: its node was down, for example."""
    ended: bool = False
    """Its first new task ended by itself: the slot is no longer in flight."""

    def failed_before(self, task: Task) -> bool:
        """Whether the task restarts one, or users started it after the first new one had failed."""
        return task.restarts > 0 or (self.ended and self.may_have_failed and task.id != self.first)


class Rollout(msgspec.Struct):
    """One update of one service: a new one begins when its users change anything."""

    key: tuple[int, int]
    slots: dict[int, Slot] = {}
    too_many_since: Instant = Instant(0)
    known_to: int = 0
    """The state, of one leader, that showed it."""

    def slot(self, number: int) -> Slot:
        """What is known of a slot."""
        return self.slots.setdefault(number, Slot())


def key_of(status: UpdateStatus) -> tuple[int, int]:
    """What tells one update of a service from the next."""
    return status.started_at, status.to_version
