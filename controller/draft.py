"""A decision in the making: plans go in, one `Decision` comes out. PURE."""

from collections.abc import Iterable

from controller.allocator.encryption import rotated, rotates_at
from controller.orchestrator.plan import Plan
from controller.placing import Placing
from pyswarm_core.clock import NEVER, Instant
from pyswarm_core.decision import Decision, Writes
from pyswarm_core.ids import IdSource, NetworkId, ServiceId
from pyswarm_core.objects import Cluster, Service
from pyswarm_core.state import State


class Draft:
    """What one decision has come to so far."""

    def __init__(self, state: State, now: Instant, ids: IdSource) -> None:
        self.again: dict[ServiceId, None] = {}
        self.removed_services: list[ServiceId] = []
        self.size = 0
        """How many tasks it writes or deletes so far."""
        self._state = state
        self._now = now
        self._ids = ids
        self._cluster: Cluster | None = None
        self._cluster_wake: Instant = NEVER
        self._placing = Placing(state, now, ids)
        self._plans: list[Plan] = []

    def take(self, plan: Plan, budget: int) -> None:
        """Place what the plan wants placed, and make its changes part of the decision."""
        for network_id in _networks(plan.service):
            self._placing.blocks(network_id)
        if plan.pending or plan.vacancies:
            self._placing.place(plan, budget)
        self._plans.append(plan)
        self.size += len(plan.changed) + len(plan.removed)

    def renew_keys(self) -> None:
        """Make the next key of encrypted networks if it is time, and say when it will be."""
        self._cluster = rotated(self._state.cluster, self._now, self._ids)
        self._cluster_wake = rotates_at(self._cluster or self._state.cluster)

    def look_at(self, network_ids: Iterable[NetworkId]) -> None:
        """Also consider which blocks of these networks are no longer needed."""
        for network_id in network_ids:
            self._placing.blocks(network_id)

    def decision(self) -> Decision:
        """All of it."""
        self._placing.explain()
        plans = self._plans
        writes = Writes(
            cluster=self._cluster,
            networks=self._placing.networks(),
            tasks=[task for plan in plans for task in plan.changed.values()],
            removed_tasks=[task_id for plan in plans for task_id in plan.removed],
            removed_services=tuple(self.removed_services),
        )
        wakes = {plan.service.id: plan.wake for plan in plans if plan.wake < NEVER}
        again = frozenset({plan.service.id for plan in plans if plan.cut} | self.again.keys())
        notes = tuple(note for plan in plans for note in plan.notes())
        return Decision(writes, wakes, self._cluster_wake, again, notes)


def _networks(service: Service) -> dict[NetworkId, None]:
    """The networks that its tasks are on or may still be on."""
    specs = (service.spec, *(previous.spec for previous in service.previous_specs))
    return {network_id: None for spec in specs for network_id in spec.task_template.overlays}
