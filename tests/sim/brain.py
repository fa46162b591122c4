"""`decide`, watched: every decision a leader makes is checked before it is believed.

Where tasks are placed (`placement`), how updates (`updates`) and restarts (`restarts`) go; and,
sampled because it is dear, that deciding twice gives the same and changes nothing.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from controller.brain.decide import decide
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Decision, Dirty, EventKind
from pyswarm_core.ids import IdSource
from pyswarm_core.indexes.tasks import waits_for_node
from pyswarm_core.kinds import KINDS, NETWORK, SERVICE
from pyswarm_core.limits import DECISION_COST, DETAIL_LENGTH_MAX, PENDING_SHOWN, WRITE_COST
from pyswarm_core.objects import Service
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from tests.sim import dependencies, paused, placement, restarts
from tests.sim.containers import removes_itself
from tests.sim.dependencies import waits
from tests.sim.marks import Marks
from tests.sim.placement import Problem
from tests.sim.rand import Chance, SeededIds
from tests.sim.restarts import Windows
from tests.sim.rules import Fail, Rule
from tests.sim.updates import Updates

PURITY_SAMPLE = 0.03
RECORDED = ("update_status", "pinned_node", "gate")
"""The fields of a service that decisions write; all others are its users'."""
REMOVED = ("removing", "version", "updated_at", "endpoint", "updated_by")
"""Those of a container that removes itself."""
ROLLED_BACK = (
    "spec",
    "version",
    "updated_at",
    "spec_version",
    "template_version",
    "previous_specs",
    "same_template",
    "endpoint",
    "in_place_version",
    "updated_by",
)
"""Those that an automatic rollback writes too."""
EXPLAIN_AGAIN = 10 * SECOND
"""A message that waits is not rewritten sooner."""
DEPENDENCY_AGAIN = 1 * SECOND
"""Unless it waits for other services."""


class Brain:
    """One controller's `decide`."""

    def __init__(
        self,
        chance: Chance,
        marks: Marks,
        tell: Callable[[str], None],
        fail: Fail,
        updates: Updates,
        *,
        windows: Windows,
        cost: int,
    ) -> None:
        """`cost`: what one decision may cost. `updates`, `windows`: of all controllers together."""
        self._windows = windows
        self._updates = updates
        self._decide = partial(decide, cost=cost)
        self._chance = chance
        self._marks = marks
        self._tell = tell
        self._fail = fail

    def decide(self, state: State, dirty: Dirty, now: Instant, ids: IdSource) -> Decision:
        """See `controller.brain.decide`."""
        if self._chance.hits(PURITY_SAMPLE) and isinstance(ids, SeededIds):
            self._check_pure(state, dirty, now, ids)
        decision = self._decide(state, dirty, now, ids)
        for rule, text in _problems(state, decision, now):
            self._fail(rule, f"decision: {text}")
        for rule, text in self._updates.problems(state, decision, now):
            self._fail(rule, f"decision: {text}")
        for rule, text in dependencies.problems(state, decision, now, self._marks):
            self._fail(rule, f"decision: {text}")
        for rule, text in self._windows.problems(state, decision):
            self._fail(rule, f"decision: {text}")
        self._mark(state, decision)
        if decision.writes:
            self._tell(_summary(decision))
        return decision

    def _check_pure(self, state: State, dirty: Dirty, now: Instant, ids: SeededIds) -> None:
        before = _everything(state)
        first = self._decide(state, dirty, now, ids.fork())
        second = self._decide(state, dirty, now, ids.fork())
        after = _everything(state)
        if first != second:
            self._fail(Rule.PURE, "deciding twice gave two decisions")
        if before != after:
            self._fail(Rule.PURE, "deciding changed the state")

    def _mark(self, state: State, decision: Decision) -> None:
        if any(cursor.slot for cursor in decision.again.values()):
            self._marks.hit("service decided in a round")
        for event in decision.events:
            if event.kind == EventKind.TASK_UNPLACED:
                self._marks.hit("task had to wait for a node")
        for task in decision.writes.tasks:
            old = state.tasks.get(task.id)
            if old is not None and old.state is TaskState.FAILED:
                self._marks.hit("task failed and was replaced")
        for network in decision.writes.of(NETWORK):
            if len(network.blocks) < len(state.networks[network.id].blocks):
                self._marks.hit("block released")


def _everything(state: State) -> list[dict[Any, Any]]:
    return [dict(state.tasks), *(dict(state.of(kind)) for kind in KINDS.values())]


def _problems(state: State, decision: Decision, now: Instant) -> Iterator[Problem]:
    for object_id, reason in (decision.failed | decision.failed_networks).items():
        yield Rule.CRASH, f"deciding failed for {object_id}: {reason}"
    for task in decision.writes.tasks:
        if len(task.detail.message) > DETAIL_LENGTH_MAX:
            length = len(task.detail.message)
            yield Rule.EXPLAINED, f"task {task.id} has a message of {length} characters"
        if task.state is TaskState.PENDING and not task.detail.message:
            yield Rule.EXPLAINED, f"task {task.id} waits and does not say why"
        old = state.tasks.get(task.id)
        if old is not None and old.state is task.state is TaskState.PENDING:
            age = now - old.status_at
            again = DEPENDENCY_AGAIN if waits(state.services[task.service_id]) else EXPLAIN_AGAIN
            if old.detail.message and old.detail != task.detail and age < again:
                yield Rule.EXPLAINED, f"task {task.id} is explained anew after {age / SECOND} s"
    for service in decision.writes.of(SERVICE):
        yield from _recorded(state.services.get(service.id), service)
    if len(decision.writes.tasks) > 2 * DECISION_COST // WRITE_COST:
        yield Rule.SLICE, f"a decision writes {len(decision.writes.tasks)} tasks"
    yield from _too_many_waiting(state, decision)
    yield from placement.misplaced(placement.after(state, decision))
    yield from restarts.problems(state, decision, now)
    yield from paused.problems(state, decision)


def _recorded(old: Service | None, new: Service) -> Iterator[Problem]:
    """What is wrong with a service that a decision writes."""
    name = new.spec.name
    if old is None or new == old:
        yield Rule.RECORDED, f"service {name} is written as it was, or made"
        return
    allowed: tuple[str, ...] = RECORDED
    if new.spec_version != old.spec_version:
        allowed += ROLLED_BACK
    if new.removing and not old.removing and removes_itself(old):
        allowed += REMOVED
    for field in new.__struct_fields__:
        if field not in allowed and getattr(new, field) != getattr(old, field):
            yield Rule.RECORDED, f"{field} of service {name} is decided"


def _too_many_waiting(state: State, decision: Decision) -> Iterator[Problem]:
    """Few of the tasks that no node can take are stored."""
    gone = dict.fromkeys(decision.writes.removed_tasks)
    written = {task.id: task for task in decision.writes.tasks}
    for service_id in dict.fromkeys(task.service_id for task in written.values()):
        tasks = {task.id: task for task in state.tasks_of_service(service_id)}
        tasks.update((i, task) for i, task in written.items() if task.service_id == service_id)
        waiting = sum(waits_for_node(task) for i, task in tasks.items() if i not in gone)
        if waiting > PENDING_SHOWN:
            yield Rule.SIZES, f"{waiting} tasks of service {service_id} wait for a node"


def _summary(decision: Decision) -> str:
    writes = decision.writes
    parts = [f"{t.id[:6]}.{t.slot} {t.state.word}>{t.desired_state.word}" for t in writes.tasks[:6]]
    if len(writes.tasks) > 6:
        parts.append(f"and {len(writes.tasks) - 6} more")
    if writes.removed_tasks:
        parts.append(f"forgets {len(writes.removed_tasks)}")
    if removed := writes.removed_of(SERVICE):
        parts.append("removes " + " ".join(i[:6] for i in removed))
    parts += [f"records {s.spec.name}" for s in writes.of(SERVICE)]
    parts += [f"{n.spec.name} has {len(n.blocks)} blocks" for n in writes.of(NETWORK)]
    reasons = sorted({event.reason for event in decision.events if event.reason})
    return f"decides {', '.join(parts)}" + (f" ({'; '.join(reasons)})" if reasons else "")
