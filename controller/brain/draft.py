"""Builds one `Decision` from the plans of services. PURE."""

from itertools import islice

from controller.brain.allocator.encryption import rotated, rotates_at
from controller.brain.dependencies.concerned import concerned
from controller.brain.dependencies.conditions import Judged
from controller.brain.orchestrator.plan import Plan
from controller.brain.placing import Placing
from controller.brain.volumework import Upkeep
from pyswarm_core.clock import NEVER, Instant
from pyswarm_core.decision import BEGINNING, WOKEN, Cursor, Decision, Work, Writes
from pyswarm_core.errors import with_place
from pyswarm_core.ids import IdSource, ServiceId
from pyswarm_core.indexes.tasks import waits_for_node
from pyswarm_core.kinds import SERVICE, VOLUME
from pyswarm_core.limits import DECISION_NETWORKS, PLACING_COST
from pyswarm_core.objects import Cluster
from pyswarm_core.state import State
from pyswarm_core.volumes.volume import Volume, VolumeId


class Draft:
    """The decision under construction."""

    def __init__(self, state: State, now: Instant, ids: IdSource, room: int) -> None:
        """`room`: what the decision may cost, in units of DECISION_COST."""
        self.again: dict[ServiceId, Cursor] = {}
        """Services for which the decision had no room."""
        self.unfinished = False
        """More is to be decided than what is dirty."""
        self.removed_services: list[ServiceId] = []
        self.upkeep = Upkeep()
        """What changed of volumes with work."""
        self.volumes: list[Volume] = []
        """Anonymous volumes that are removed with their containers."""
        self.removed_volumes: list[VolumeId] = []
        """Those of them without a copy."""
        self.failed: dict[ServiceId, str] = {}
        self._is_spoilt = False
        """Placing failed halfway, and what it had reserved is lost to this decision. The next one
        takes the remaining services.
        """
        self._state = state
        self._now = now
        self._ids = ids
        self._cluster: Cluster | None = None
        self._cluster_wake: Instant = NEVER
        self.placing = Placing(state, now, ids)
        self.judged: Judged = {}
        self._plans: list[Plan] = []
        self._cost = 0
        self._room = room

    @property
    def room(self) -> int:
        """What the next plan may cost; 0 if the decision is full."""
        left = self._room - self._cost
        return 0 if self._is_spoilt or left < PLACING_COST else left

    def take(self, plan: Plan) -> None:
        """Place the plan's tasks, and add its changes to the decision."""
        try:
            if plan.pending or plan.vacancies:
                self.placing.place(plan)
            if plan.joining is not None:
                self.placing.join(plan.service, plan.joining)
        except Exception as error:
            self.failed[plan.service.id] = with_place(error)
            self._is_spoilt = True
            return
        self._plans.append(plan)
        self._cost += 1 + plan.cost

    def written_volumes(self) -> set[VolumeId]:
        """The volumes that the plans change or remove: nothing else changes them in this decision,
        which would be based on what they were before.
        """
        changed = (*self.placing.volumes.changed(), *self.volumes)
        return {one.id for one in changed} | set(self.removed_volumes)

    def renew_keys(self) -> None:
        """Make the next encryption key if it is due, and set when the one after it is."""
        self._cluster = rotated(self._state.cluster, self._now, self._ids)
        self._cluster_wake = rotates_at(self._cluster or self._state.cluster)

    def give_back(self) -> None:
        """Take back idle blocks, of up to DECISION_NETWORKS networks."""
        idle = self._state.idle_blocks.networks
        self.unfinished |= len(idle) > DECISION_NETWORKS
        for network_id in islice(idle, DECISION_NETWORKS):
            self.placing.blocks(network_id)

    def decision(self, retried: int) -> Decision:
        """The decision. `retried`: how many waiting services were compared with changed nodes."""
        self.placing.explain()
        plans = self._plans
        again = self.again | {
            plan.service.id: cursor for plan in plans if (cursor := self._next(plan)) is not None
        }
        again |= dict.fromkeys(self.upkeep.services, BEGINNING)
        written = [plan.service.id for plan in plans if plan.written]
        for service_id in concerned(self._state, written):
            again.setdefault(service_id, WOKEN)
        writes = Writes(
            cluster=self._cluster,
            objects=(
                *(plan.recorded for plan in plans if plan.recorded is not None),
                *self.placing.networks(),
                *self.placing.volumes.changed(),
                *self.upkeep.volumes,
                *self.volumes,
            ),
            tasks=[task for plan in plans for task in plan.changed.values()],
            removed_tasks=[task_id for plan in plans for task_id in plan.removed],
            removed=(
                *map(SERVICE.object_name, self.removed_services),
                *map(VOLUME.object_name, self.removed_volumes),
            ),
        )
        wakes = {plan.service.id: plan.wake for plan in plans if plan.wake < NEVER}
        failed = self.failed | self.placing.failed
        events = tuple(event for plan in plans for event in plan.events()) + self.upkeep.events
        work = Work(
            cost=self._cost,
            services=len(plans),
            slots=sum(plan.slots for plan in plans),
            placings=self.placing.placings,
            retried=retried,
            networks=self.placing.networks_seen,
        )
        return Decision(
            writes,
            wakes,
            self._cluster_wake,
            self.upkeep.wake,
            {one: cursor for one, cursor in again.items() if one not in failed},
            events,
            work,
            unfinished=self.unfinished,
            failed=failed,
            failed_networks=self.placing.failed_networks,
        )

    def _next(self, plan: Plan) -> Cursor | None:
        """Where the next decision continues with the service, None if it is decided."""
        anew = plan.cursor.anew or (plan.cursor.unshown and self._shows_fewer(plan))
        if plan.resume is None:
            return BEGINNING if anew else None
        if plan.resume == 0:
            return Cursor(surplus=plan.surplus)
        lacking = plan.resume if plan.seeks_lacking else plan.cursor.lacking
        return Cursor(plan.resume, plan.surplus, plan.unshown, anew, lacking)

    def _shows_fewer(self, plan: Plan) -> bool:
        """Whether the plan leaves fewer pending tasks stored than it found."""
        known = (self._state.tasks.get(task_id) for task_id in plan.changed | plan.removed)
        before = sum(task is not None and waits_for_node(task) for task in known)
        return sum(map(waits_for_node, plan.changed.values())) < before
