"""What the tasks of a service say of themselves, for people who ask why. PURE."""

from controller.requests.lookup import find_service_or_task, task_name
from controller.requests.progress import service_progress
from pyswarm_core.clock import Instant
from pyswarm_core.objects import Task
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from pyswarm_core.units import ago


def messages_of(state: State, ref: str, now: Instant) -> list[str]:
    """One line in sum, one per slot that does not run; for a task its own. Raises NotFound."""
    named = find_service_or_task(state, ref)
    if isinstance(named, Task):
        detail = named.detail
        since = ago(named.status_at or named.created_at, now)
        lines = [f"{task_name(state, named)} is {named.state.word}, last heard of {since}"]
        return lines + [text for text in (detail.message, detail.error) if text]
    progress = service_progress(state, named.id)
    lines = [f"{progress.running} of {progress.desired} run, {progress.updated} as last asked for"]
    for slot in progress.slots:
        if slot.state is not TaskState.RUNNING:
            reason = slot.error or slot.message or "nothing more is known"
            lines.append(f"{named.spec.name}.{slot.slot} is {slot.state.word}: {reason}")
    return lines
