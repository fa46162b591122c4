"""Users' changes of single tasks. PURE."""

from msgspec.structs import replace

from controller.api.queries.lookup import task_name
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, NotFound, quoted
from pyswarm_core.ids import TaskId
from pyswarm_core.indexes.tasks import is_desired
from pyswarm_core.objects import Service, Task, Version
from pyswarm_core.state import State
from pyswarm_core.states import TaskState, is_terminal


def restart_task(state: State, task_id: TaskId, now: Instant) -> tuple[Writes, Task]:
    """The task with the desired state shutdown; its slot gets another task at once. A container
    whose task has ended by itself runs again.

    Raises NotFound, and Conflict if it ended or is being shut down.
    """
    task = state.tasks.get(task_id)
    if task is None:
        raise NotFound(f"no such task: {quoted(task_id)}")
    if (started := _started(state, task, now)) is not None:
        return Writes(objects=(started,)), task
    if not is_desired(task):
        state_word, desired = task.state.word, task.desired_state.word
        raise Conflict(
            f"task {task_name(state, task)} ({task.id}) is {state_word}, desired {desired}:"
            " only a task that should run can be restarted"
        )
    ending = replace(task, desired_state=TaskState.SHUTDOWN)
    return Writes(tasks=[ending]), ending


def _started(state: State, task: Task, now: Instant) -> Service | None:
    """The container of the task, started now, if that was its last task and has ended."""
    service = state.services.get(task.service_id)
    if service is None or not service.spec.mode.is_container or not is_terminal(task.state):
        return None
    last = state.tasks_of_service(service.id).slots[task.slot][-1]
    if last.id != task.id or service.removing or service.spec.stopped:
        return None
    version = Version(index=service.version.index + 1)
    return replace(service, started_at=now, version=version, updated_at=now)
