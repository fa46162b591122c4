"""What the rules have to know of tasks and services that were told to stop."""

from collections.abc import Iterator

from pyswarm_core.ids import ServiceId, TaskId
from pyswarm_core.indexes.tasks import is_desired
from pyswarm_core.kinds import SERVICE
from pyswarm_core.objects import Task
from pyswarm_core.states import NodeState, TaskState
from tests.sim.marks import Marks
from tests.sim.rules import Rule
from tests.sim.view import Change, View


class Stops:
    """What users asked of tasks, and what the store says of tasks and services that were told to
    stop. It is a law that nothing stored breaks.
    """

    rule = Rule.STOPPED_FOR

    def __init__(self, marks: Marks, asked: dict[TaskId, None]) -> None:
        self._marks = marks
        self.asked = asked
        """Tasks that somebody asked their agents to stop or to signal."""
        self.accepted: dict[TaskId, None] = {}
        """Those whose agents have begun to stop them."""
        self.told: dict[TaskId, None] = {}
        """Tasks that were to end before they had ended."""
        self.before_start: dict[ServiceId, frozenset[TaskId]] = {}
        """The tasks that a service had before it was last started, none that the start made."""
        self._held: dict[tuple[ServiceId, int], tuple[TaskId, ...]] = {}
        """The tasks of each slot that should run or, if there are none, those that last did."""

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        """Remember what is stored."""
        for old, new in change.of(SERVICE):
            if old is not None and new is not None and old.spec.stopped and not new.spec.stopped:
                self._marks.hit("service started")
                tasks = {t.id for slot in view.slots_of(new.id).values() for t in slot}
                made = {t.id for before, t in change.tasks if before is None and t is not None}
                self.before_start[new.id] = frozenset(tasks - made)
        self._remember_held(change)
        for before, task in change.tasks:
            if task is None or task.desired_state <= TaskState.RUNNING:
                continue
            lived = before is None or before.desired_state <= TaskState.RUNNING
            if lived and task.state <= TaskState.RUNNING:
                self.told[task.id] = None
        yield from ()

    def _remember_held(self, change: Change) -> None:
        """Which tasks fill the slots."""
        held: dict[tuple[ServiceId, int], list[TaskId]] = {}
        for _, task in change.tasks:
            if task is not None and is_desired(task):
                held.setdefault((task.service_id, task.slot), []).append(task.id)
        self._held.update({slot: tuple(ids) for slot, ids in held.items()})

    def last_of(self, tasks: list[Task]) -> Task | None:
        """The one of a slot's tasks, oldest first, that was the last to fill it, though a newer one
        may have been beside it. None if only such are left that are to be removed.
        """
        kept = [task for task in tasks if task.desired_state is not TaskState.REMOVE]
        held = [t for t in kept if t.id in self._held.get((t.service_id, t.slot), ())]
        last = held or kept
        return last[-1] if last else None

    def still_running(self, view: View) -> Iterator[str]:
        """Tasks that have not ended although their agents accepted to stop them. Of a node that is
        down nothing more is known.
        """
        for task_id in self.accepted:
            task = view.tasks.get(task_id)
            if task is None or task.state > TaskState.RUNNING:
                continue
            node = view.nodes.get(task.node_id)
            if node is None or node.status.state is not NodeState.DOWN:
                yield f"task {task_id} was stopped by its users and is {task.state.word}"
