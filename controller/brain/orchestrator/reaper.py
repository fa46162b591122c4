"""Which tasks nobody needs to remember. PURE.

Per slot the newest ended tasks stay, for people: `task_history_limit` of them, and never more than
HISTORY_MAX. Restarts are counted by what the newest task knows of them, not by those kept.
"""

from collections.abc import Sequence

from pyswarm_core.objects import Task
from pyswarm_core.states import TaskState, is_terminal


def superfluous(tasks: Sequence[Task], history_kept: int) -> list[Task]:
    """The ended tasks of one slot (oldest first) that may be forgotten."""
    ended = [task for task in tasks if is_terminal(task.state)]
    return ended[: max(0, len(ended) - history_kept)]


def is_forgettable(task: Task) -> bool:
    """Whether a task to be removed can go at once: it ended, or no agent ever heard of it."""
    return is_terminal(task.state) or task.state < TaskState.ASSIGNED
