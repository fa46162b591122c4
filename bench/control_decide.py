"""The cost of a decision by the number of changes and by the number of objects. SHELL: a clock.

The brain alone, without store and agents. Ten tasks of several services fail and are decided in the
loop's slices. Then they are restored, and fail again.
"""

import statistics
import time
from collections.abc import Iterator
from itertools import islice

from msgspec.structs import replace

from bench.control_rig import fleet, service_spec
from bench.report import Figure
from controller.api.changes.services import Update, create_service, update_service
from controller.brain.decide import decide
from controller.leader.agenda import Agenda
from pyswarm_core.aio.system import RandomIds, SystemClock
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import ServiceId
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
STEPS = 40
"""Steps of one update that are measured."""


def measure(quick: bool) -> Iterator[Figure]:
    """On 10,000 nodes."""
    nodes, sizes = (1_000, EXISTING[:1]) if quick else (10_000, EXISTING)
    brain = _Brain(nodes)
    of_ten, steps = {}, {}
    for size in sizes:
        brain.grow(size)
        of_ten[size] = brain.decided_ms(CHANGED[0])
        yield _point(CHANGED[0], size, of_ten[size])
        steps[size] = brain.step_ms()
        yield Figure(
            f"decided: a step of an update of {REPLICAS:,} replicas, of {size:,} tasks",
            steps[size],
            "ms",
            2,
            note="one slot is over, the next begins",
        )
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
        f"a step of an update: cost with {most:,} tasks over cost with {least:,}",
        steps[most] / steps[least],
        "times",
        2,
        note="the cost follows the slots in flight",
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

    def step_ms(self) -> float:
        """Median processor time of a step of an update in the newest service, which is undone."""
        state, agenda, now = self._state, Agenda(), SystemClock().now()
        service = next(reversed(state.services.values()))
        before = list(state.tasks_of_service(service.id))
        runs = TaskDetail(serving=True)
        for task in before:
            state.observe(task.node_id, (TaskStatus(task.id, TaskState.RUNNING, runs),), now)
        template = replace(service.spec.task_template, force_update=1)
        update = Update(service.id, service.version, replace(service.spec, task_template=template))
        writes, _ = update_service(state, update, (), now, self._ids)
        agenda.add_writes(writes, state)
        state.apply(writes)
        took_s = []
        for _ in range(STEPS):
            took_s.append(0.0)
            for _ in range(2):  # the old task is stopped; it ended, the new one is made
                took_s[-1] += self._turn(agenda, now)
                _advance(state, service.id, now)
                agenda.add_services((service.id,))
        made = [t.id for t in state.tasks_of_service(service.id) if t.spec_version > 1]
        assert STEPS - 2 <= len(made) <= STEPS + 2, "one slot at a time"
        state.apply(Writes(objects=(service,), tasks=before, removed_tasks=made))
        return 1000 * statistics.median(took_s)

    def _turn(self, agenda: Agenda, now: Instant) -> float:
        """Decide until nothing is left; return the processor time."""
        state, took_s = self._state, 0.0
        while agenda:
            began = time.process_time()
            dirty = agenda.take(state)
            decision = decide(state, dirty, now, self._ids)
            agenda.follow_up(dirty, decision)
            took_s += time.process_time() - began
            state.apply(decision.writes)
        return took_s


def _advance(state: State, service_id: ServiceId, now: Instant) -> None:
    """The agents of the slots in flight: tasks that are to stop have ended, new ones serve."""
    tasks = state.tasks_of_service(service_id)
    newest = [tasks.slots[slot][-1] for slot in tasks.unsettled]
    newest += [task for task in _made(state, service_id) if task.state is TaskState.ASSIGNED]
    for task in newest:
        stops = task.desired_state is TaskState.SHUTDOWN
        end = TaskState.SHUTDOWN if stops else TaskState.RUNNING
        status = TaskStatus(task.id, end, TaskDetail(serving=not stops))
        state.observe(task.node_id, (status,), now)


def _made(state: State, service_id: ServiceId) -> list[Task]:
    slots = state.tasks_of_service(service_id).slots
    return [slots[slot][-1] for slot in state.tasks_of_service(service_id).storied]


def _fail(state: State, tasks: list[Task], now: Instant) -> None:
    for task in tasks:
        status = TaskStatus(task.id, TaskState.FAILED, TaskDetail(exit_code=1))
        state.observe(task.node_id, (status,), now)
