"""A change of one volume, or of a task with volumes: its cost by how many exist. SHELL: a clock.

The brain and the use cases alone, without store and agents, in processor time. Every service mounts
ten volumes, each its own.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from random import choice

from msgspec.structs import replace

from bench.control_rig import fleet, service_spec
from bench.report import Figure
from controller.api.changes.services import create_service
from controller.api.changes.volumes import create_volume, remove_volume
from controller.api.queries.why import why
from controller.brain.decide import decide
from controller.leader.agenda import Agenda
from pyswarm_core.aio.system import RandomIds, SystemClock
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict
from pyswarm_core.kinds import SERVICE, VOLUME
from pyswarm_core.objects import TaskDetail, TaskStatus
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from pyswarm_core.volumes.mounts import Mount
from pyswarm_core.volumes.volume import VolumeSpec

EXISTING = (1_000, 100_000)
OF_A_SERVICE = 10
NODES = 1_000
SAMPLES = 60
BOUND = 1.5
"""The cost is to follow the change, not what exists; caches of the processor see the rest."""


def measure(quick: bool) -> Iterator[Figure]:
    """Each change with few and with many volumes."""
    nodes, sizes = (100, (100, 1_000)) if quick else (NODES, EXISTING)
    fleets = {size: _Fleet(nodes, size) for size in sizes}
    few, many = sizes
    for name, change in _CHANGES.items():
        # In turns, so that the machine is the same for both.
        took = {size: list[float]() for size in sizes}
        for _ in range(SAMPLES):
            for size in sizes:
                took[size].append(change(fleets[size]))
        least, most = (statistics.median(took[size]) for size in sizes)
        note = f"{1e6 * most:,.0f} us with {many:,} volumes, {1e6 * least:,.0f} us with {few:,}"
        yield Figure(
            f"{name}: cost over its cost with few volumes", most / least, "x", BOUND, note=note
        )


def spec_of(index: int) -> ServiceSpec:
    """The spec of a service with volumes of its own."""
    spec = service_spec(index, 1)
    mounts = tuple(
        Mount(source=f"data{index}-{one}", target=f"/data{one}") for one in range(OF_A_SERVICE)
    )
    container = replace(spec.task_template.container_spec, mounts=mounts)
    return replace(spec, task_template=replace(spec.task_template, container_spec=container))


class _Fleet:
    """A state with so many volumes, and changes in it that are undone. Each returns the processor
    seconds of the change.
    """

    def __init__(self, nodes: int, volumes: int) -> None:
        self._state: State = fleet(nodes)
        self._ids = RandomIds()
        self._now = SystemClock().now()
        self._agenda = Agenda()
        self._made = volumes // OF_A_SERVICE - 1  # one more is created, within the limits
        for index in range(self._made):
            self._apply(create_service(self._state, spec_of(index), (), self._now, self._ids)[0])
        self._decide()
        assert len(self._state.of(VOLUME)) == volumes - OF_A_SERVICE
        assert self._state.tasks_in_state[TaskState.ASSIGNED] == self._made
        self._names = [one.spec.name for one in self._state.services.values()]

    def fail_task(self) -> float:
        """A task fails; another one is made where its volumes are."""
        state, service_id = self._state, self._state.service_of_name[choice(self._names)]
        (task,) = before = list(state.tasks_of_service(service_id))
        failed = TaskStatus(task.id, TaskState.FAILED, TaskDetail(exit_code=1))
        began = time.process_time()
        state.observe(task.node_id, (failed,), self._now)
        self._agenda.add_services((service_id,))
        self._decide()
        took = time.process_time() - began
        made = [one for one in state.tasks_of_service(service_id) if one.id != task.id]
        assert [one.node_id for one in made] == [task.node_id]
        state.apply(Writes(tasks=before, removed_tasks=[one.id for one in made]))
        return took

    def create_service(self) -> float:
        """A service is created; its task gets a node, and its volumes are created."""
        state, spec = self._state, spec_of(self._made)
        began = time.process_time()
        writes, service = create_service(state, spec, (), self._now, self._ids)
        self._apply(writes)
        self._decide()
        took = time.process_time() - began
        known = state.ids_of_names(VOLUME)
        names = [VOLUME.object_name(known[one]) for one in spec.task_template.volumes]
        names.append(SERVICE.object_name(service.id))
        tasks = [task.id for task in state.tasks_of_service(service.id)]
        assert len(tasks) == 1
        state.apply(Writes(removed=tuple(names), removed_tasks=tasks))
        return took

    def create_and_remove(self) -> float:
        """A volume is created, and removed."""
        began = time.process_time()
        writes, volume = create_volume(
            self._state, VolumeSpec(name="created"), self._now, self._ids
        )
        self._apply(writes)
        self._apply(remove_volume(self._state, volume.spec.name, self._now)[0])
        self._decide()
        took = time.process_time() - began
        assert volume.id not in self._state.of(VOLUME)
        return took

    def refuse_removal(self) -> float:
        """A volume that is in use is not removed."""
        name = choice(self._names).replace("service", "data") + "-0"
        began = time.process_time()
        try:
            remove_volume(self._state, name, self._now)
        except Conflict:
            return time.process_time() - began
        raise AssertionError(f"{name} was removed")

    def explain(self) -> float:
        """`why` of a service whose task waits for its agent."""
        began = time.process_time()
        assert why(self._state, choice(self._names), self._now)
        return time.process_time() - began

    def _apply(self, writes: Writes) -> None:
        self._agenda.add_writes(writes, self._state)
        self._state.apply(writes)

    def _decide(self) -> None:
        while self._agenda:
            dirty = self._agenda.take(self._state)
            decision = decide(self._state, dirty, self._now, self._ids)
            self._agenda.follow_up(dirty, decision)
            self._state.apply(decision.writes)


_CHANGES: Mapping[str, Callable[[_Fleet], float]] = {
    "a task with ten volumes fails": _Fleet.fail_task,
    "a service with ten new volumes is created": _Fleet.create_service,
    "a volume is created and removed": _Fleet.create_and_remove,
    "a volume in use is not removed": _Fleet.refuse_removal,
    "why of a service with ten volumes": _Fleet.explain,
}
