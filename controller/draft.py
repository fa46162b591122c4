"""A decision in the making: plans go in, one `Decision` comes out. PURE."""

from collections.abc import Iterable

from controller.orchestrator.plan import Plan
from controller.placing import Placing
from pyswarm_core.clock import NEVER, Instant
from pyswarm_core.decision import Decision, Note, Writes
from pyswarm_core.ids import IdSource, NetworkId, ServiceId, TaskId
from pyswarm_core.objects import Service, Task
from pyswarm_core.state import State


class Draft:
    """What one decision has come to so far."""

    def __init__(self, state: State, now: Instant, ids: IdSource) -> None:
        self.again: dict[ServiceId, None] = {}
        self.removed_services: list[ServiceId] = []
        self._placing = Placing(state, now, ids)
        self._tasks: list[Task] = []
        self._removed_tasks: list[TaskId] = []
        self._wakes: dict[ServiceId, Instant] = {}
        self._notes: list[Note] = []

    @property
    def size(self) -> int:
        """How many tasks it writes or deletes so far."""
        return len(self._tasks) + len(self._removed_tasks)

    def take(self, plan: Plan) -> None:
        """Place what the plan wants placed, and make its changes part of the decision."""
        service_id = plan.service.id
        if plan.pending or plan.vacancies:
            self._placing.place(plan)
        self._tasks.extend(plan.changed.values())
        self._removed_tasks.extend(plan.removed)
        self._notes.extend(plan.notes())
        if plan.cut:
            self.again[service_id] = None
        if plan.wake < NEVER:
            self._wakes[service_id] = plan.wake
        for network_id in _networks(plan.service):
            self._placing.blocks(network_id)

    def look_at(self, network_ids: Iterable[NetworkId]) -> None:
        """Also consider which blocks of these networks are no longer needed."""
        for network_id in network_ids:
            self._placing.blocks(network_id)

    def decision(self) -> Decision:
        """All of it."""
        writes = Writes(
            networks=self._placing.networks(),
            tasks=self._tasks,
            removed_tasks=self._removed_tasks,
            removed_services=tuple(self.removed_services),
        )
        return Decision(writes, self._wakes, frozenset(self.again), tuple(self._notes))


def _networks(service: Service) -> dict[NetworkId, None]:
    """The networks that its tasks are on or may still be on."""
    specs = (service.spec, *(previous.spec for previous in service.previous_specs))
    return {
        NetworkId(attachment.target): None
        for spec in specs
        for attachment in spec.task_template.networks
    }
