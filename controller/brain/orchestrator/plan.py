"""The changes that an orchestrator plans for one service, before tasks have nodes. PURE.

Later passes see what earlier ones changed, and a task is written at most once.
"""

from msgspec import Struct
from msgspec.structs import replace

from pyswarm_core.clock import NEVER, Instant
from pyswarm_core.decision import BEGINNING, Cursor, EventKind
from pyswarm_core.ids import NodeId, TaskId
from pyswarm_core.indexes.dependents import keeps_templates
from pyswarm_core.indexes.rollout import is_outdated
from pyswarm_core.limits import (
    DECISION_COST,
    DETAIL_LENGTH_MAX,
    PLACING_COST,
    SLOT_COST,
    SLOTS_SCANNED_PER_COST,
    WRITE_COST,
)
from pyswarm_core.objects import Service, Task, TaskDetail, clipped, shortened
from pyswarm_core.specs import UpdateOrder
from pyswarm_core.states import TaskState
from pyswarm_core.views import Event

AFTER_ALL = 1 << 62
"""A slot number after all others: a round that continues there has looked at every slot."""


class Vacancy(Struct, frozen=True, gc=False):
    """A task to create."""

    slot: int
    version: int
    """The spec version that it is made from."""
    desired_state: TaskState = TaskState.RUNNING
    restarts: int = 0
    node_id: NodeId = NodeId("")
    """The only node that it may run on; empty: the scheduler chooses one."""
    restarted_at: tuple[Instant, ...] = ()
    consecutive_restarts: int = 0
    failed_update: bool = False
    follows: TaskId = TaskId("")
    """The task that ended by itself, which it replaces."""
    why: tuple[EventKind, str] | None = None
    """What to report when the task is made."""


class UpdateStep(Struct, gc=False):
    """Which outdated tasks may end once it is known which new tasks no node takes."""

    without_node: dict[int, bool] = {}
    """Slots in flight whose new tasks have no nodes yet, and no outdated ones beside them; whether
    the node of a task before was lost, drained or paused.
    """
    room_left: int = 0
    """How many more slots may be in flight."""
    candidates: list[Task] = []
    """The outdated tasks that follow; only if some slots in flight have no node."""


class Plan:
    """The changes that one service needs."""

    joining: Task | None = None
    """A container's task that runs and has yet to join networks."""
    waits_for = ""
    """Which dependencies tasks of the present template wait for; empty: for none."""

    def __init__(
        self,
        service: Service,
        *,
        partial: bool = False,
        cursor: Cursor = BEGINNING,
        room: int = DECISION_COST,
    ) -> None:
        self.service = service
        self.recorded: Service | None = None
        """The service, if the decision writes it."""
        one_at_a_time = service.spec.task_template.writes_volumes
        self.order = UpdateOrder.STOP_FIRST if one_at_a_time else service.update_settings.order
        """How an outdated task is replaced. With start-first, a slot may hold two tasks that should
        run: the outdated one, and the new one until it serves.
        """
        self.is_paused = keeps_templates(service)
        """Whether an update is paused: slots with outdated tasks keep their template."""
        self.cursor = cursor
        """Where this decision continues the round over the service's slots."""
        self.room = room
        """What it may cost, in units of DECISION_COST."""
        self.partial = partial
        """Only slots of nodes that changed are looked at: the service itself has not changed."""
        self.changed: dict[TaskId, Task] = {}
        self.removed: dict[TaskId, Task] = {}
        self.vacancies: dict[int, Vacancy] = {}
        """By slot."""
        self.pending: dict[TaskId, Task] = {}
        """Stored tasks that wait for a node."""
        self.wake: Instant = NEVER
        self.slots = 0
        """How many slots were looked at."""
        self.resume: int | None = None
        """The slot at which the next decision continues; None if the plan is complete."""
        self.seeks_lacking = False
        """Whether nodes without their slot of a global service were looked for."""
        self.unshown = cursor.unshown
        """Whether the round left slots without a task because enough pending ones were stored."""
        self.surplus: tuple[int, ...] = ()
        """Slots that the next decision is to remove."""
        self.scanned = 0
        """Slots and nodes that were looked at briefly: many of them cost as much as one slot."""
        self.waits_for_room = False
        """An update makes no further tasks beside others until those that wait have nodes."""
        self.step = UpdateStep()
        """What an update has left for the time when tasks are placed."""
        self.missing = 0
        """How many tasks are to be made beyond the vacancies."""
        self._events: dict[tuple[EventKind, str], int] = {}

    @property
    def version(self) -> int:
        """The spec version that new tasks are made from."""
        return self.service.spec_version

    @property
    def written(self) -> int:
        """How many objects are written or deleted so far."""
        return len(self.changed) + len(self.removed) + (self.recorded is not None)

    @property
    def cost(self) -> int:
        """The cost so far, in units of DECISION_COST."""
        return (
            SLOT_COST * self.slots
            + WRITE_COST * self.written
            + self.scanned // SLOTS_SCANNED_PER_COST
            + PLACING_COST * bool(self.vacancies or self.pending)
        )

    @property
    def writes_left(self) -> int:
        """How many more tasks may be written, vacancies included."""
        return max(0, self.room - self.cost) // WRITE_COST

    @property
    def is_full(self) -> bool:
        """Whether no other slot may be looked at in this decision."""
        return self.slots > 0 and self.writes_left <= len(self.vacancies)

    @property
    def is_cut(self) -> bool:
        """Whether more is to be done in the next decision."""
        return self.resume is not None

    def cut(self, slot: int) -> None:
        """Continue at the slot in the next decision, or at a lower one that was named before."""
        self.resume = slot if self.resume is None else min(self.resume, slot)

    def version_after(self, last: Task) -> int:
        """The spec version of the task that follows an earlier one of its slot."""
        service = self.service
        if self.is_paused and is_outdated(service, last) and service.made_from(last.spec_version):
            return last.spec_version
        return self.version

    def record(self, service: Service) -> None:
        """Write the service itself."""
        self.service = self.recorded = service

    def change(self, task: Task, *, desired: TaskState) -> Task:
        """Write the task with another desired state; return it as it will be."""
        changed = replace(task, desired_state=desired)
        self.changed[task.id] = changed
        if task.id in self.pending:
            self.pending[task.id] = changed
        return changed

    def end(self, task: Task, state: TaskState, now: Instant) -> Task:
        """Write the task as ended without a report of its agent; return it as it will be."""
        ended = self.changed[task.id] = replace(task, state=state, status_at=now)
        return ended

    def shorten(self, task: Task) -> None:
        """Write an ended task with only what is kept of older ones, unless it has no more."""
        known = self.changed.get(task.id, task)
        detail = shortened(known.detail)
        if detail is not known.detail or known.restarted_at:
            self.changed[task.id] = replace(known, detail=detail, restarted_at=())

    def remove(self, task: Task) -> None:
        """Delete the task from the store."""
        self.changed.pop(task.id, None)
        self.pending.pop(task.id, None)
        self.removed[task.id] = task

    def wake_at(self, at: Instant) -> None:
        """Decide again then, at the latest."""
        self.wake = min(self.wake, at)

    def report(self, kind: EventKind, reason: str, count: int = 1) -> None:
        """Add an event about the service; events of the same kind and reason are counted in one."""
        key = (kind, reason)
        self._events[key] = self._events.get(key, 0) + count

    def events(self) -> list[Event]:
        """The events reported, in the order in which each was first reported."""
        service = self.service
        return [
            Event.of(kind, service.id, service.spec.name, reason, count)
            for (kind, reason), count in self._events.items()
        ]


def explained(detail: TaskDetail, message: str) -> TaskDetail:
    """The detail with another message, cut to what is stored."""
    return replace(detail, message=clipped(message, DETAIL_LENGTH_MAX))
