"""Why a task or service is in its state: a chain of causes, and what would change it. PURE.

Evaluates the filters and the restart policy of the decisions; nothing is stored for it.
"""

from collections.abc import Iterable
from heapq import nsmallest
from itertools import islice

import numpy as np

from controller.api.changes.unreadable import why_unreadable
from controller.api.queries.authors import changed_by, unavailable_by
from controller.api.queries.lookup import find_service_or_task
from controller.api.queries.views import desired_tasks, unlisted_tasks
from controller.api.queries.why_task import silent, why_ended, why_on_node
from controller.api.queries.why_update import why_updated
from controller.api.queries.why_volumes import of_pending
from controller.api.queries.wording import named, start_of
from controller.brain.demands import current_demand
from controller.brain.dependencies.explain import why_held, why_not_yet
from controller.brain.mounts import is_per_task
from controller.brain.orchestrator.container_service import has_lost_layer
from controller.brain.orchestrator.modes import orchestrator_of
from controller.brain.orchestrator.quarantine import Quarantine
from controller.brain.scheduler.explain import Exclusion, exclusions
from controller.brain.scheduler.ledger import Ledger
from controller.brain.scheduler.remedy import remedies
from controller.brain.slices import Slices, batches, finish
from pyswarm_core.clock import Instant
from pyswarm_core.docker.units import counted
from pyswarm_core.errors import NotFound, quoted, with_place
from pyswarm_core.ids import ServiceId, TaskId
from pyswarm_core.indexes.dependents import is_held, is_held_whole
from pyswarm_core.indexes.in_place import refuses_limits, refuses_networks
from pyswarm_core.indexes.tasks import is_desired, waits_for_node
from pyswarm_core.kinds import USER
from pyswarm_core.limits import SLICE_TASKS
from pyswarm_core.objects import Service, Task
from pyswarm_core.state import State
from pyswarm_core.states import NodeState, TaskState, is_terminal

_TASKS_TOLD = 3
"""Tasks of a service that are listed one by one, the worst first."""
_NODES_TOLD = 3
"""Nodes that are not ready and listed one by one: those that may return first."""
_TASKS_JUDGED = 1_000
"""Tasks of a service that do not run and are evaluated one by one; more would add nothing."""
_JUDGED_AT_ONCE = 100
"""Of them in one slice; each may have a long history."""


class _Case:
    """The moment of the query, and what all waiting tasks of a service have in common."""

    def __init__(self, state: State, now: Instant) -> None:
        self.state = state
        self.now = now
        self._waiting: dict[tuple[ServiceId, int], _Waiting] = {}

    def waiting(self, service: Service, slot: int = 1) -> "_Waiting":
        """Why the service's tasks wait: evaluated over all nodes once, however many tasks wait,
        unless slots have volumes of their own.
        """
        key = service.id, slot if is_per_task(service.spec.task_template) else 0
        found = self._waiting.get(key)
        if found is None:
            found = self._waiting[key] = _Waiting(self.state, service, self.now, slot)
        return found


def explain(
    state: State, ref: str, now: Instant, quarantine: Quarantine, *, is_admin: bool = True
) -> Slices[list[str]]:
    """The answer to `why`: the causes, or the error of an object that cannot be read; of a user
    only for an admin. `ref` is an id, a name or the beginning of an id. Raises NotFound.
    """
    if lines := why_unreadable(state, ref, [] if is_admin else [USER.name]):
        return lines
    named = yield from find_service_or_task(state, ref)
    yield
    return (yield from look_at_why(state, named.id, now, quarantine))


def why(state: State, ref: str, now: Instant, quarantine: Quarantine | None = None) -> list[str]:
    """Causes, one line each, outermost first. `ref` is the id of a task or the id or name of a
    service. Raises NotFound.
    """
    return finish(look_at_why(state, ref, now, quarantine))


def look_at_why(
    state: State, ref: str, now: Instant, quarantine: Quarantine | None = None
) -> Slices[list[str]]:
    """The same in slices. Of a service's tasks at most _TASKS_JUDGED are judged one by one."""
    case = _Case(state, now)
    task = state.tasks.get(TaskId(ref))
    service_id = ServiceId(ref) if ref in state.services else state.service_of_name.get(ref)
    if task is not None:
        service_id = task.service_id
    if service_id is None:
        raise NotFound(f"no such service or task: {quoted(ref)}")
    held = quarantine.reasons(service_id) if quarantine else []
    try:
        if task is not None:
            return [*_why_task(case, task), *held]
        lines = yield from _why_service(case, state.services[service_id])
        return [*held, *lines]
    except Exception as error:
        if not held:
            raise
        return [*held, f"its causes cannot be computed: {with_place(error)}"]


def _why_service(case: _Case, service: Service) -> Slices[list[str]]:
    state = case.state
    tasks = state.tasks_of_service(service.id)
    name = service.spec.name
    if service.removing:
        left = sum(len(held) for held in tasks.slots.values())
        head = f"{named(service)} is being removed; {left} of its tasks have not ended yet"
        return [head, *changed_by(service, case.now), *why_not_yet(state, service)]
    desired = orchestrator_of(service).desired_text(service)
    lines = [f"{named(service)} has {counted(tasks.running, 'running task')}, {desired}"]
    lines += changed_by(service, case.now)
    if service.spec.stopped:
        lines.append(f"it is stopped: start it with `{start_of(service)}`")
        lines += why_not_yet(state, service)
    if has_lost_layer(state, service):
        lines.append("its node was removed, and its writable layer with it: it runs from its image")
        lines.append(f"remedy: start it: pyswarm start {name}")
    troubled: list[Task] = []
    for numbers in batches(sorted(tasks.slots), SLICE_TASKS):
        yield
        newest = [held[-1] for number in numbers if (held := tasks.slots.get(number))]
        troubled += [task for task in newest if _is_troubled(state, service, task)]
    lines += why_updated(state, service, case.now)
    seen: dict[str, None] = {}
    for number, task in enumerate(troubled[:_TASKS_JUDGED], 1):
        if number % _JUDGED_AT_ONCE == 0:
            yield
        told = _why_task(case, task)
        # Replicas that wait for the same reason are listed once.
        if told[1:] and told[1] not in seen and len(seen) < _TASKS_TOLD:
            seen[told[1]] = None
            lines += told
    unlisted = unlisted_tasks(state, service, desired_tasks(state, service))
    if unlisted:
        total = unlisted + tasks.pending
        what = "its dependencies" if is_held_whole(service) else "a node"
        lines.append(f"{total} replicas wait for {what}, {tasks.pending} of them as tasks")
    elif len(troubled) > len(seen) > 0:
        lines.append(f"{len(troubled)} tasks of {name} do not run in all")
    return lines


def _is_troubled(state: State, service: Service, task: Task) -> bool:
    """Whether it is to be shown: it does not run, or it runs and something is wrong with it."""
    node = state.nodes.get(task.node_id)
    if node is not None and node.status.state is NodeState.DOWN and is_desired(task):
        return True
    if task.state is not TaskState.RUNNING:
        return not (service.spec.stopped and task.state is TaskState.SHUTDOWN)
    refuses = refuses_limits(service, task) or refuses_networks(service, task)
    return is_desired(task) and (not task.detail.serving or refuses)


def _why_task(case: _Case, task: Task) -> list[str]:
    state, now = case.state, case.now
    service = state.services.get(task.service_id)
    if service is None:
        return [f"task {task.id} belongs to a service that no longer exists"]
    head = f"task {service.name_of(task)} is {task.state.word}, desired {task.desired_state.word}"
    if waits_for_node(task) and is_held(service, task.spec_version):
        return [head, *why_held(state, service)]
    if waits_for_node(task):
        return [head, *case.waiting(service, task.slot).lines(task)]
    if is_terminal(task.state):
        return [head, *why_ended(state, service, task, now)]
    return [head, *why_on_node(state, service, task, now)]


class _Waiting:
    """Why tasks of one service wait for a node, or for room on the one they are bound to."""

    def __init__(self, state: State, service: Service, now: Instant, slot: int) -> None:
        self._nodes = state.node_table.nodes
        self._rows = state.node_table.rows
        self._total = len(self._rows)
        self._now = now
        if self._total:
            demand = current_demand(state, service, now, slot)
            ledger = Ledger(state.node_table)
            self._found = exclusions(ledger, demand)
            excluded = sum(int(one.rows.sum()) for one in self._found)
            self._data = of_pending(state, ledger, demand)
            self._has_room = excluded < self._total
            self._remedies = [f"remedy: {t}" for t in remedies(ledger, demand, service.spec.name)]
            self._silent = self._told_silent(self._excluded_by("ready"))
            self._unavailable = self._told_unavailable(self._excluded_by("availability"))

    def lines(self, task: Task) -> list[str]:
        """The reasons, in numbers, and the remedies."""
        if not self._total:
            return ["no node has joined", "join one: pyswarm swarm join"]
        if not task.node_id:
            if self._has_room:
                return ["a node that can run it was found: the next decision assigns it"]
            told = self._told(self._found, self._silent, self._unavailable)
            return [*self._data, *told]
        row = self._rows.get(task.node_id, -1)
        found = [one for one in self._found if row >= 0 and one.rows[row]]
        return self._told(found, self._told_silent([row]), self._told_unavailable([row]))

    def _excluded_by(self, name: str) -> list[int]:
        """Rows of nodes that this filter excludes, not too many."""
        rows = (np.flatnonzero(one.rows) for one in self._found if one.filter == name)
        return [int(row) for row in next(rows, np.zeros(0))[:SLICE_TASKS]]

    def _told(self, found: list[Exclusion], silent: list[str], unavailable: list[str]) -> list[str]:
        lines = []
        for one in found:
            lines.append(f"{int(one.rows.sum())} of {self._total} nodes {one.text}")
            if one.filter == "ready":
                lines += silent
            if one.filter == "availability":
                lines += unavailable
        return [*lines, *self._remedies]

    def _told_unavailable(self, rows: Iterable[int]) -> list[str]:
        nodes = (node for row in rows if (node := self._nodes[row]))
        return list(islice(unavailable_by(nodes, self._now), _NODES_TOLD))

    def _told_silent(self, rows: Iterable[int]) -> list[str]:
        nodes = [node for row in rows if (node := self._nodes[row])]
        told = nsmallest(_NODES_TOLD, nodes, lambda n: (n.status.state is NodeState.DOWN, n.number))
        return [silent(node, self._now) for node in told]
