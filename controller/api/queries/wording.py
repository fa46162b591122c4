"""Words that answers about tasks and services share. PURE."""

from pyswarm_core.clock import MINUTE, SECOND, Instant
from pyswarm_core.docker.units import ago, format_duration
from pyswarm_core.objects import Service, Task
from pyswarm_core.state import State


def span(duration: int) -> str:
    """A duration for people: `3.0 s`, `2m5s`; never negative."""
    duration = max(0, duration)
    if duration < MINUTE:
        return f"{duration / SECOND:.1f} s"
    return format_duration(duration // SECOND * SECOND)


def since(at: Instant, now: Instant) -> str:
    """How long ago it was, within a sentence: `less than a second ago`."""
    return ago(at, now).lower()


def named(service: Service) -> str:
    """What users call it: `container db`, `service web`."""
    kind = "container" if service.spec.mode.is_container else "service"
    return f"{kind} {service.spec.name}"


def start_of(service: Service) -> str:
    """The command that starts it again after it was stopped."""
    verb = "start" if service.spec.mode.is_container else "service start"
    return f"pyswarm {verb} {service.spec.name}"


def host_of(state: State, task: Task) -> str:
    """The name of the task's host."""
    node = state.nodes.get(task.node_id)
    return node.description.hostname if node else "a node that was removed"
