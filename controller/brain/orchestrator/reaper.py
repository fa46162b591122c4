"""Which ended tasks are deleted. PURE.

The newest ended tasks of each slot stay as history: `task_history_limit` of them, and never more
than HISTORY_MAX. The newest task stores the number of restarts; history does not matter for it.
"""

from collections.abc import Sequence

from pyswarm_core.objects import Task
from pyswarm_core.states import TaskState, is_terminal


def superfluous(tasks: Sequence[Task], history_kept: int) -> list[Task]:
    """The ended tasks of one slot (oldest first) that may be deleted."""
    ended = [task for task in tasks if is_terminal(task.state)]
    return ended[: max(0, len(ended) - history_kept)]


def is_forgettable(task: Task) -> bool:
    """Whether a task can be deleted at once: it ended, or was never sent to an agent."""
    return is_terminal(task.state) or task.state < TaskState.ASSIGNED
