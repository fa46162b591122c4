"""Users' changes of single tasks. PURE."""

from msgspec.structs import replace

from controller.api.queries.lookup import task_name
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, NotFound, quoted
from pyswarm_core.ids import TaskId
from pyswarm_core.indexes.tasks import is_desired
from pyswarm_core.objects import Task
from pyswarm_core.state import State
from pyswarm_core.states import TaskState


def restart_task(state: State, task_id: TaskId) -> tuple[Writes, Task]:
    """The task with the desired state shutdown; its slot gets another task at once.

    Raises NotFound, and Conflict if it ended or is being shut down.
    """
    task = state.tasks.get(task_id)
    if task is None:
        raise NotFound(f"no such task: {quoted(task_id)}")
    if not is_desired(task):
        state_word, desired = task.state.word, task.desired_state.word
        raise Conflict(
            f"task {task_name(state, task)} ({task.id}) is {state_word}, desired {desired}:"
            " only a task that should run can be restarted"
        )
    ending = replace(task, desired_state=TaskState.SHUTDOWN)
    return Writes(tasks=[ending]), ending
