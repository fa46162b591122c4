"""The cost of a decision by the number of changes and by the number of objects. SHELL: a clock.

The brain alone, without store and agents. Ten tasks of several services fail and are decided in the
loop's slices. Then they are restored, and fail again.
"""

import statistics
import time
from collections.abc import Iterator
from itertools import islice

from bench.control_rig import fleet, service_spec
from bench.report import Figure
from controller.api.changes.services import create_service
from controller.brain.decide import decide
from controller.leader.agenda import Agenda
from pyswarm_core.aio.system import RandomIds, SystemClock
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.objects import Task, TaskDetail, TaskStatus
from pyswarm_core.state import State
from pyswarm_core.states import TaskState

REPLICAS = 1_000
"""Of every service, however many there are."""
FAILING = 10
"""Tasks of one service that change."""
EXISTING = (10_000, 100_000, 1_000_000)
CHANGED = (10, 100, 1_000, 10_000)
SAMPLES = 7


def measure(quick: bool) -> Iterator[Figure]:
    """On 10,000 nodes."""
    nodes, sizes = (1_000, EXISTING[:1]) if quick else (10_000, EXISTING)
    brain = _Brain(nodes)
    of_ten = {}
    for size in sizes:
        brain.grow(size)
        of_ten[size] = brain.decided_ms(CHANGED[0])
        yield _point(CHANGED[0], size, of_ten[size])
    least, most = sizes[0], sizes[-1]
    of_changed = {CHANGED[0]: of_ten[most]}
    for changed in CHANGED[1:]:
        if changed <= most // REPLICAS * FAILING:
            of_changed[changed] = brain.decided_ms(changed)
            yield _point(changed, most, of_changed[changed])
    few, many = CHANGED[0], max(of_changed)
    yield Figure(
        f"{few} changed: cost with {most:,} tasks over cost with {least:,}",
        of_ten[most] / of_ten[least],
        "times",
        2,
        note="the cost follows the changes, not the number of objects",
    )
    yield Figure(
        f"{many:,} changed: cost of one over its cost when {few} change",
        of_changed[many] / many / (of_changed[few] / few),
        "times",
        1,
        note=f"with {most:,} tasks",
    )


def _point(changed: int, existing: int, took_ms: float) -> Figure:
    return Figure(
        f"decided: {changed:,} changed of {existing:,} tasks",
        took_ms,
        "ms",
        note=f"{1000 * took_ms / changed:.0f} us for each",
    )


class _Brain:
    """A state that can grow, and failures in it that are undone."""

    def __init__(self, nodes: int) -> None:
        self._state = fleet(nodes)
        self._ids = RandomIds()

    def grow(self, tasks: int) -> None:
        """Grow to that many services, with all tasks placed."""
        state, agenda, now = self._state, Agenda(), SystemClock().now()
        for index in range(len(state.services), tasks // REPLICAS):
            writes, _ = create_service(state, service_spec(index, REPLICAS), (), now, self._ids)
            agenda.add_writes(writes, state)
            state.apply(writes)
        while agenda:
            dirty = agenda.take(state)
            decision = decide(state, dirty, now, self._ids)
            agenda.follow_up(dirty, decision)
            state.apply(decision.writes)
        assert len(state.tasks) == state.tasks_in_state[TaskState.ASSIGNED] == tasks

    def decided_ms(self, changed: int) -> float:
        """Median processor time of the decisions after that many failures."""
        return statistics.median(self._sample(changed) for _ in range(SAMPLES))

    def _sample(self, changed: int) -> float:
        state, agenda, now = self._state, Agenda(), SystemClock().now()
        failing = [
            task
            for service_id in islice(state.services, changed // FAILING)
            for task in islice(state.tasks_of_service(service_id), FAILING)
        ]
        _fail(state, failing, now)
        agenda.add_services(task.service_id for task in failing)
        took_s, written = 0.0, 0
        while agenda:
            began = time.process_time()
            dirty = agenda.take(state)
            decision = decide(state, dirty, now, self._ids)
            agenda.follow_up(dirty, decision)
            took_s += time.process_time() - began
            written += len(decision.writes.tasks)
        assert written == 2 * changed, "each is shut down and replaced"
        state.apply(Writes(tasks=failing))
        return 1000 * took_s


def _fail(state: State, tasks: list[Task], now: Instant) -> None:
    for task in tasks:
        status = TaskStatus(task.id, TaskState.FAILED, TaskDetail(exit_code=1))
        state.observe(task.node_id, (status,), now)
