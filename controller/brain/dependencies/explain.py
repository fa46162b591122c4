"""Why tasks wait for other services, and what would help. PURE."""

from controller.brain.dependencies.conditions import Unmet, message_of, unmet
from controller.brain.dependencies.ending import ending_before
from pyswarm_core.indexes.dependents import awaits, is_ending
from pyswarm_core.objects import Service
from pyswarm_core.state import State
from pyswarm_core.states import TaskState


def why_held(state: State, service: Service) -> list[str]:
    """What a service that awaits its dependencies waits for, one line each, with what these wait
    for and what would help.
    """
    if not (found := unmet(state, service)):
        return ["the conditions of its dependencies hold: the next decision lets its tasks start"]
    return [line for one in found for line in (one.text, *_because(state, one))]


def why_not_yet(state: State, service: Service) -> list[str]:
    """Which services the tasks wait for before they end; empty if for none."""
    if not is_ending(service) or not state.tasks_of_service(service.id).unfinished:
        return []
    names = [other.spec.name for other in ending_before(state, service)]
    return [f"its tasks end after those of {', '.join(names)}"] if names else []


def _because(state: State, why: Unmet) -> list[str]:
    other = state.services.get(why.service_id)
    if other is None:
        return ["remedy: create it, or take it out of depends_on"]
    name = other.spec.name
    if other.spec.stopped:
        return [f"remedy: start it: pyswarm service start {name}"]
    lines = []
    if awaits(other) and (found := unmet(state, other)):
        lines.append(f"{name} itself {message_of(found)}")
    if why.failed and _ends_badly(state, other):
        lines.append(f"remedy: run it again: pyswarm service update --force {name}")
    return [*lines, f"see: pyswarm why {name}"]


def _ends_badly(state: State, service: Service) -> bool:
    newest = (held[-1] for held in state.tasks_of_service(service.id).slots.values())
    return any(task.state in (TaskState.FAILED, TaskState.REJECTED) for task in newest)
