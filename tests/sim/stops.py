"""What the rules have to know of tasks and services that were told to stop."""

from collections.abc import Iterator

from pyswarm_core.ids import ServiceId, TaskId
from pyswarm_core.kinds import SERVICE
from pyswarm_core.states import TaskState
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

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        """Remember what is stored."""
        for old, new in change.of(SERVICE):
            if old is not None and new is not None and old.spec.stopped and not new.spec.stopped:
                self._marks.hit("service started")
                made = {t.id for before, t in change.tasks if before is None and t is not None}
                tasks = {t.id for slot in view.slots_of(new.id).values() for t in slot}
                self.before_start[new.id] = frozenset(tasks - made)
        for before, task in change.tasks:
            if task is None or task.desired_state <= TaskState.RUNNING:
                continue
            lived = before is None or before.desired_state <= TaskState.RUNNING
            if lived and task.state <= TaskState.RUNNING:
                self.told[task.id] = None
        yield from ()

    def still_running(self, view: View) -> Iterator[str]:
        """Tasks that have not ended although their agents accepted to stop them."""
        for task_id in self.accepted:
            task = view.tasks.get(task_id)
            if task is not None and task.state <= TaskState.RUNNING:
                yield f"task {task_id} was stopped by its users and is {task.state.word}"
