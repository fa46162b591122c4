"""Words that answers about tasks and services share. PURE."""

from pyswarm_core.clock import MINUTE, SECOND
from pyswarm_core.docker.units import format_duration
from pyswarm_core.objects import Task
from pyswarm_core.state import State


def span(duration: int) -> str:
    """A duration for people: `3.0 s`, `2m5s`; never negative."""
    duration = max(0, duration)
    if duration < MINUTE:
        return f"{duration / SECOND:.1f} s"
    return format_duration(duration // SECOND * SECOND)


def host_of(state: State, task: Task) -> str:
    """The name of the task's host."""
    node = state.nodes.get(task.node_id)
    return node.description.hostname if node else "a node that was removed"
