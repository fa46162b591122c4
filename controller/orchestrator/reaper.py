"""Which tasks nobody needs to remember. PURE.

Per slot the newest `task_history_limit` ended tasks stay, for people; and as many of the current
template as counting restarts within a window needs, at most RESTARTS_REMEMBERED. A negative limit
keeps everything, as in Swarm.
"""

from collections.abc import Sequence

from pyswarm_core.limits import RESTARTS_REMEMBERED
from pyswarm_core.objects import Service, Task
from pyswarm_core.states import TaskState, is_terminal


def superfluous(tasks: Sequence[Task], service: Service, history_limit: int) -> list[Task]:
    """The ended tasks of one slot (oldest first) that may be forgotten."""
    if history_limit < 0:
        return []
    keep = max(history_limit, _attempts_to_remember(service))
    ended = [task for task in tasks if is_terminal(task.state)]
    if len(ended) <= min(history_limit, keep):
        return []
    surplus = ended[: max(0, len(ended) - history_limit)]
    remembered = {task.id for task in ended[max(0, len(ended) - keep) :]}
    current = service.template_version
    return [task for task in surplus if task.spec_version < current or task.id not in remembered]


def is_forgettable(task: Task) -> bool:
    """Whether a task to be removed can go at once: it ended, or no agent ever heard of it."""
    return is_terminal(task.state) or task.state < TaskState.ASSIGNED


def _attempts_to_remember(service: Service) -> int:
    policy = service.spec.task_template.restart_policy
    if policy.window <= 0 or policy.max_attempts <= 0:
        return 0
    return min(policy.max_attempts, RESTARTS_REMEMBERED)
