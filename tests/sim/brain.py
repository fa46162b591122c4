"""`decide`, watched: every decision a leader makes is checked before it is believed.

Reservations must fit when a task is placed; an update takes down one slot at a time; and, sampled
because it is dear, deciding twice gives the same and changes nothing.
"""

from collections.abc import Callable, Iterator

from controller.decide import decide
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Decision, Dirty, NoteKind
from pyswarm_core.ids import IdSource, NodeId
from pyswarm_core.limits import DETAIL_LENGTH_MAX
from pyswarm_core.state import State, is_wanted
from pyswarm_core.states import Availability, NodeState, TaskState, is_terminal, occupies
from tests.sim.marks import Marks
from tests.sim.rand import Chance, SeededIds

PURITY_SAMPLE = 0.03


class Brain:
    """One controller's `decide`."""

    def __init__(
        self,
        chance: Chance,
        marks: Marks,
        tell: Callable[[str], None],
        fail: Callable[[str], None],
    ) -> None:
        self._chance = chance
        self._marks = marks
        self._tell = tell
        self._fail = fail

    def decide(self, state: State, dirty: Dirty, now: Instant, ids: IdSource) -> Decision:
        """See `controller.decide`."""
        if self._chance.hits(PURITY_SAMPLE) and isinstance(ids, SeededIds):
            self._check_pure(state, dirty, now, ids)
        decision = decide(state, dirty, now, ids)
        for problem in self._problems(state, decision):
            self._fail(f"decision: {problem}")
        self._mark(state, decision)
        if decision.writes:
            self._tell(_summary(decision))
        return decision

    def _check_pure(self, state: State, dirty: Dirty, now: Instant, ids: SeededIds) -> None:
        before = (dict(state.tasks), dict(state.services), dict(state.nodes), dict(state.networks))
        first = decide(state, dirty, now, ids.fork())
        second = decide(state, dirty, now, ids.fork())
        after = (dict(state.tasks), dict(state.services), dict(state.nodes), dict(state.networks))
        if first != second:
            self._fail("deciding twice gave two decisions")
        if before != after:
            self._fail("deciding changed the state")

    def _problems(self, state: State, decision: Decision) -> Iterator[str]:
        placed: dict[NodeId, None] = {}
        for task in decision.writes.tasks:
            old = state.tasks.get(task.id)
            if task.state is TaskState.ASSIGNED and (old is None or old.state < task.state):
                placed[task.node_id] = None
            if len(task.detail.message) > DETAIL_LENGTH_MAX:
                yield f"task {task.id} has a message of {len(task.detail.message)} characters"
            if task.state is TaskState.PENDING and not task.detail.message:
                yield f"task {task.id} waits and does not say why"
        for node_id in placed:
            yield from _overfull(state, decision, node_id)
        for note in decision.notes:
            if note.kind is NoteKind.TASK_SHUTDOWN and note.reason == "outdated":
                yield from _second_victim(state, decision, note.subject, note.count)

    def _mark(self, state: State, decision: Decision) -> None:
        for note in decision.notes:
            if note.kind is NoteKind.TASK_UNPLACED:
                self._marks.hit("wanted task had to wait for a node")
            if note.kind is NoteKind.TASK_REPLACED and note.reason.startswith("exit code"):
                self._marks.hit("task failed and was replaced")
        for network in decision.writes.networks:
            if len(network.blocks) < len(state.networks[network.id].blocks):
                self._marks.hit("block released")


def _overfull(state: State, decision: Decision, node_id: NodeId) -> Iterator[str]:
    node = state.nodes.get(node_id)
    if node is None or node.status.state is not NodeState.READY:
        yield f"a task was placed on {node_id}, which is not ready"
        return
    tasks = dict(state.tasks_of_node(node_id))
    tasks.update({t.id: t for t in decision.writes.tasks if t.node_id == node_id})
    holding = [t for t in tasks.values() if occupies(t.state)]
    cpus = sum(state.footprint(t).nano_cpus for t in holding)
    memory = sum(state.footprint(t).memory_bytes for t in holding)
    there = node.description.resources
    if cpus > there.nano_cpus or memory > there.memory_bytes:
        yield (
            f"node {node.description.hostname} is overfull: {cpus} of {there.nano_cpus} CPUs,"
            f" {memory} of {there.memory_bytes} bytes"
        )


def _second_victim(state: State, decision: Decision, service_id: str, count: int) -> Iterator[str]:
    """One slot at a time may be down because of an update."""
    service = state.services[service_id]  # type: ignore[index]
    surplus = {t.id for t in decision.writes.tasks if t.desired_state is TaskState.REMOVE}
    down = [
        task.id
        for task in state.tasks_of_service(service.id)
        if task.spec_version < service.template_version
        and task.id not in surplus
        and task.desired_state is TaskState.SHUTDOWN
        and not is_terminal(task.state)
        and not any(is_wanted(t) for t in state.tasks_of_service(service.id).slots[task.slot])
        and (node := state.nodes.get(task.node_id)) is not None
        and node.status.state is NodeState.READY
        and node.spec.availability is not Availability.DRAIN
    ]
    if count > 1 or down:
        yield f"an update of {service.spec.name} takes down {count} tasks while {down} are down"


def _summary(decision: Decision) -> str:
    writes = decision.writes
    parts = [f"{t.id[:6]}.{t.slot} {t.state.word}>{t.desired_state.word}" for t in writes.tasks[:6]]
    if len(writes.tasks) > 6:
        parts.append(f"and {len(writes.tasks) - 6} more")
    if writes.removed_tasks:
        parts.append(f"forgets {len(writes.removed_tasks)}")
    if writes.removed_services:
        parts.append("removes " + " ".join(i[:6] for i in writes.removed_services))
    parts += [f"{n.spec.name} has {len(n.blocks)} blocks" for n in writes.networks]
    reasons = sorted({note.reason for note in decision.notes if note.reason})
    return f"decides {', '.join(parts)}" + (f" ({'; '.join(reasons)})" if reasons else "")
