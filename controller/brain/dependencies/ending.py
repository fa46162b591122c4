"""Services that are stopped or removed end after those that depend on them. PURE.

Only services that are ending, too, are waited for, and not longer than they may take to end: their
agents kill what does not end within its grace period.
"""

from collections.abc import Iterator

from pyswarm_core.clock import Instant, after
from pyswarm_core.ids import ServiceId
from pyswarm_core.indexes.tasks import ServiceTasks
from pyswarm_core.objects import Service
from pyswarm_core.stacks.limits import DEPENDENCIES_MAX, END_SLACK
from pyswarm_core.state import State
from pyswarm_core.states import NodeState, is_terminal

_EARLIEST = Instant(0)


def waits_until(state: State, service: Service, now: Instant) -> Instant:
    """Until when, at the latest, the tasks of a stopped or removed service keep running because
    services that depend on it have not ended. 0: they end now.
    """
    until = _last_end(state, service, {})
    return until if until > now else _EARLIEST


def held_back(state: State, now: Instant) -> dict[ServiceId, None]:
    """The services whose tasks run on until those that depend on them have ended."""
    services = state.services
    after_others = state.dependents.ending_after_others()
    return {one: None for one in after_others if waits_until(state, services[one], now)}


def ending_before(state: State, service: Service) -> Iterator[Service]:
    """The services that depend on it, are being stopped or removed, and have not ended yet."""
    for service_id in state.dependents.ending_on(service.spec.name):
        other = state.services.get(service_id)
        if other is not None and other.id != service.id and _has_living(state, other):
            yield other


def _last_end(state: State, service: Service, known: dict[ServiceId, Instant]) -> Instant:
    """When, at the latest, the last of the services that end before this one has ended; 0: none is
    left. A service that waits in turn begins to end after that.
    """
    if (found := known.get(service.id)) is not None:
        return found
    known[service.id] = _EARLIEST  # of specs of different times, some may form a cycle
    last = _EARLIEST
    if len(known) <= DEPENDENCIES_MAX:
        for other in ending_before(state, service):
            begins = max(other.updated_at, _last_end(state, other, known))
            grace = other.spec.task_template.container_spec.stop_grace_period
            last = max(last, after(begins, grace + END_SLACK))
    known[service.id] = last
    return last


def _has_living(state: State, service: Service) -> bool:
    """Whether any of its tasks has not ended, on a node that can report it."""
    tasks = state.tasks_of_service(service.id)
    return bool(tasks.unfinished) and any(_lives(state, tasks, slot) for slot in tasks.slots)


def _lives(state: State, tasks: ServiceTasks, slot: int) -> bool:
    for task in tasks.slots[slot]:
        node = state.nodes.get(task.node_id)
        is_up = node is not None and node.status.state is not NodeState.DOWN
        if is_up and not is_terminal(task.state):
            return True
    return False
