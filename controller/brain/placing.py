"""Assigns nodes to a plan's tasks. PURE.

Combines scheduler and allocator: a node can take a task if the filters pass and if its networks
have free addresses there. A task for which there is no node stays pending, with the reason.
"""

from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple, cast

import numpy as np
from msgspec.structs import replace

from controller.brain.allocator.blocks import Blocks
from controller.brain.demands import demand_of, drives_volumes, with_rooms
from controller.brain.freed import makes_room
from controller.brain.grouping import GroupVolumes, grouped
from controller.brain.orchestrator.plan import AFTER_ALL, Plan, explained
from controller.brain.orchestrator.restart import delay_before
from controller.brain.orchestrator.room import go_on, stop_instead
from controller.brain.orchestrator.unassigned import Alike, UnassignedTask, alike, unassigned_of
from controller.brain.scheduler.explain import message, messages_by_row
from controller.brain.scheduler.filters import (
    Demand,
    capacity,
    homes,
    strict,
)
from controller.brain.scheduler.ledger import Ledger
from controller.brain.scheduler.ranking import spread
from controller.brain.volumes import VolumeBook
from pyswarm_core.clock import Instant, after
from pyswarm_core.decision import EventKind
from pyswarm_core.errors import with_place
from pyswarm_core.ids import IdSource, NetworkId, NodeId, ServiceId, TaskId
from pyswarm_core.indexes.dependents import is_held
from pyswarm_core.indexes.nodes import IntColumn
from pyswarm_core.indexes.tasks import waits_for_node
from pyswarm_core.limits import (
    BOUND_LEAST,
    EXPLAIN_PERIOD,
    PENDING_SHOWN,
)
from pyswarm_core.objects import NO_DETAIL, Network, Service, Task
from pyswarm_core.stacks.limits import DEPENDENCY_MESSAGE_PERIOD
from pyswarm_core.state import State
from pyswarm_core.states import TaskState

_ASSIGNED = TaskState.ASSIGNED
_PENDING = TaskState.PENDING
_READY = TaskState.READY
_NOWHERE = NodeId("")


class _Waiting(NamedTuple):
    """Tasks that found no node."""

    plan: Plan
    demand: Demand
    is_bound: bool
    unassigned: list[UnassignedTask]
    missing: int
    """How many more of them are to be made."""
    volumes: GroupVolumes


class Placing:
    """The nodes' resources and networks' blocks while one decision places tasks."""

    def __init__(self, state: State, now: Instant, ids: IdSource) -> None:
        self._state = state
        self._now = now
        self._ids = ids
        self.ledger = Ledger(state.node_table)
        self.volumes = VolumeBook(state, now, ids)
        self.placings = 0
        """For how many services nodes were looked for."""
        self._blocks: dict[NetworkId, Blocks] = {}
        self._waiting: list[_Waiting] = []
        self._shown: Counter[ServiceId] = Counter()
        """By service, how many pending tasks of those explained so far are stored."""
        self.failed: dict[ServiceId, str] = {}
        """Services for whose pending tasks the reason could not be found."""
        self.failed_networks: dict[NetworkId, str] = {}
        """Networks whose blocks could not be computed."""

    def place(self, plan: Plan) -> None:
        """Find nodes for the plan's tasks, for as many as there is room for.

        Placed tasks become changes of the plan. `explain` adds some of the others.
        """
        self.placings += 1
        waiting = [unassigned_of(task) for task in plan.pending.values()]
        waiting += [UnassignedTask(plan.vacancies[number]) for number in sorted(plan.vacancies)]
        if plan.waits_for:
            waiting = self._hold(plan, waiting)
        all_placed = True
        for group in alike(plan.service, waiting):
            left = self._place_alike(plan, group)
            all_placed = all_placed and not left
            self._waiting += left
        if plan.waits_for_room and all_placed:
            plan.cut(AFTER_ALL)

    def _place_alike(self, plan: Plan, alike: Alike) -> list[_Waiting]:
        """Place tasks of one template; return those that no node can take."""
        demand = demand_of(self._state, plan, alike.spec, self._now)
        for source in demand.sources:
            plan.wake_at(source.until)
        is_current = not alike.is_bound and alike.spec is plan.service.spec
        missing = plan.missing if is_current else 0
        places = [(one.vacancy.slot, one.vacancy.node_id) for one in alike.unassigned]
        waiting, groups = list[_Waiting](), 0
        for volumes, members in grouped(
            self._state, plan.service, alike.spec, places, self.volumes
        ):
            groups += 1
            group = [alike.unassigned[at] for at in members]
            # Other slots may have volumes elsewhere: those that wait say nothing of them.
            more = 0 if volumes.per_task else missing
            if alike.is_bound:
                left = self._place_bound(plan, demand, group, volumes)
            else:
                left = self._place_unbound(plan, demand, group, volumes, more)
            if left:
                waiting.append(_Waiting(plan, demand, alike.is_bound, left, more, volumes))
        if missing and waiting and len(waiting) == groups:
            waiting[0] = waiting[0]._replace(missing=missing)
        elif missing:
            plan.cut(AFTER_ALL)
        return waiting

    def join(self, service: Service, task: Task) -> None:
        """Give the node of a container's task blocks of the networks that it has yet to join."""
        node = self._state.nodes.get(task.node_id)
        chosen = service.spec.task_template.task_ips
        held = [one.network_id for one in task.detail.addresses]
        for network_id in self._state.footprint(task).networks if node else ():
            if network_id not in held and (blocks := self.blocks(network_id)) and node:
                blocks.cover(node.id, node.number, chosen.get(network_id, ""))

    def explain(self) -> None:
        """Record why tasks have no node, after all other tasks have been placed."""
        for waiting in self._waiting:
            try:
                self._explain(waiting)
            except Exception as error:
                self.failed[waiting.plan.service.id] = with_place(error)

    def _hold(self, plan: Plan, waiting: list[UnassignedTask]) -> list[UnassignedTask]:
        """Store what waits for the service's dependencies, with the reason; return the others."""
        held = [one for one in waiting if is_held(plan.service, one.vacancy.version)]
        if unassigned := self._shown_of(plan, held):
            why = [plan.waits_for] * len(unassigned)
            self._store(plan, unassigned, why, len(held) + plan.missing)
        return [one for one in waiting if not is_held(plan.service, one.vacancy.version)]

    def _explain(self, unplaced: _Waiting) -> None:
        plan, demand, is_bound, waiting, missing, volumes = unplaced
        if self.volumes.kept(plan.service, volumes.names(waiting[0].vacancy.slot)):
            plan.wake_at(after(self._now, EXPLAIN_PERIOD))  # another service may cease to mount it
        if not (unassigned := self._shown_of(plan, waiting)):
            return
        demand = self._with_rooms(demand)
        why = self._reasons(demand, unassigned, volumes, is_bound=is_bound)
        demand = self._required(demand, volumes, unassigned[0].vacancy.slot)
        self._store(plan, unassigned, why, len(waiting) + missing)
        slots = [one.vacancy.slot for one in unassigned]
        frees = partial(makes_room, self._state, self.ledger, self.blocks, demand)
        stop_instead(plan, self._state, slots, frees)
        go_on(plan, (one.vacancy.slot for one in waiting), missing, frees)

    def _shown_of(self, plan: Plan, waiting: list[UnassignedTask]) -> list[UnassignedTask]:
        """Those to store. At most PENDING_SHOWN pending tasks of a service are stored. The others
        are made when a node can take them; which ones these are follows from the service and its
        stored tasks.
        """
        shown = self._shown[plan.service.id]
        stored = [one for one in waiting if one.task is not None]
        kept = max(0, PENDING_SHOWN - shown)
        for one in stored[kept:]:
            plan.remove(cast("Task", one.task))
        stored = stored[:kept]
        unmade = [one for one in waiting if one.task is None]
        # If the service is decided in parts, others may be pending already.
        known = (self._state.tasks.get(i) for i in plan.pending | plan.removed | plan.changed)
        seen = sum(one is not None and waits_for_node(one) for one in known)
        others = self._state.tasks_of_service(plan.service.id).pending - seen
        room = max(0, PENDING_SHOWN - others - shown - len(stored))
        unassigned = [*stored, *unmade[:room]]
        plan.unshown |= len(unmade) > room
        self._shown[plan.service.id] += len(unassigned)
        return unassigned

    def _store(
        self, plan: Plan, unassigned: list[UnassignedTask], why: list[str], count: int
    ) -> None:
        """Write these as pending, each with its reason. `count`: how many tasks wait."""
        before = plan.written
        created = self._created(plan, unassigned, [_NOWHERE] * len(unassigned), why)
        for one, reason in zip(unassigned, why, strict=True):
            if one.task is not None:
                self._keep_waiting(plan, one.task, reason)
        plan.changed.update(created)
        if plan.written > before:
            plan.report(EventKind.TASK_UNPLACED, why[0], count)

    def _reasons(
        self,
        demand: Demand,
        unassigned: list[UnassignedTask],
        volumes: GroupVolumes,
        *,
        is_bound: bool,
    ) -> list[str]:
        """Why each of the tasks has no node. Slots with volumes of their own have own reasons."""
        if volumes.per_task and len(unassigned) > 1:
            alone = GroupVolumes(own=volumes.own, service=volumes.service, left=volumes.left)
            each = ([one] for one in unassigned)
            return [self._reasons(demand, one, alone, is_bound=is_bound)[0] for one in each]
        demand = self._required(demand, volumes, unassigned[0].vacancy.slot)
        if not is_bound:
            return [message(self.ledger, demand)] * len(unassigned)
        of_row = messages_by_row(self.ledger, demand)
        rows = self._state.node_table.rows
        return [of_row(rows.get(one.vacancy.node_id, -1)) for one in unassigned]

    def blocks(self, network_id: NetworkId) -> Blocks | None:
        """The blocks of a network as this decision leaves them; None if the network does not exist
        or its blocks cannot be computed.
        """
        found = self._blocks.get(network_id)
        network = self._state.networks.get(network_id)
        if found is None and network is not None and network_id not in self.failed_networks:
            try:
                found = self._blocks[network_id] = Blocks(network, self._state)
            except Exception as error:
                self.failed_networks[network_id] = with_place(error)
        return found

    @property
    def networks_seen(self) -> int:
        """How many networks' blocks were looked at."""
        return len(self._blocks)

    def networks(self) -> tuple[Network, ...]:
        """The networks whose blocks changed."""
        changed = []
        for network_id in sorted(self._blocks):
            try:
                network = self._blocks[network_id].result(self._now)
            except Exception as error:
                self.failed_networks[network_id] = with_place(error)
                continue
            if network is not None:
                changed.append(network)
        return tuple(changed)

    def _place_unbound(
        self,
        plan: Plan,
        demand: Demand,
        unassigned: list[UnassignedTask],
        volumes: GroupVolumes,
        missing: int,
    ) -> list[UnassignedTask]:
        """Place as many as there is room for; the next decision continues with the rest and with
        those `missing`. Return those that no node can take.
        """
        vacancies = [one.task for one in unassigned].count(None)
        room = max(1, plan.writes_left, 0 if volumes.per_task else vacancies)
        left = self._place_free(plan, demand, unassigned[:room], volumes)
        if left:
            return left + unassigned[room:]
        if len(unassigned) > room:
            plan.cut(min(one.vacancy.slot for one in unassigned[room:]))
        elif missing:
            plan.cut(AFTER_ALL)
        return []

    def _place_free(
        self,
        plan: Plan,
        demand: Demand,
        unassigned: list[UnassignedTask],
        volumes: GroupVolumes,
    ) -> list[UnassignedTask]:
        rows: list[int] = []
        ids = self._state.node_table.ids
        while len(rows) < len(unassigned):
            slot = unassigned[len(rows)].vacancy.slot
            demand = self._at_home(self._with_rooms(demand), volumes, slot)
            room, count = capacity(self.ledger, demand), len(unassigned) - len(rows)
            if not room.any() and len(required := strict(demand.homes)) < len(demand.homes):
                demand = demand._replace(homes=required)
                room = capacity(self.ledger, demand)
            if is_first := self.volumes.homeless(plan.service, volumes.shared):
                # The first task chooses the node of the volumes: one that has room for the others.
                room, count = np.where(room >= min(count, room.max(initial=0)), room, 0), 1
            chosen = spread(self.ledger, demand, room, count)
            taken = self._take(chosen, demand)
            np.add.at(demand.on_node, taken, 1)
            placed = unassigned[len(rows) :]
            rows += taken.tolist()
            self._take_volumes(plan.service, volumes, placed, [ids[row] for row in taken])
            # Blocks that ran out meanwhile show in the next pass.
            if len(taken) == len(chosen) and not (is_first and len(taken)):
                break
        self._assign(plan, unassigned[: len(rows)], [ids[row] for row in rows])
        return unassigned[len(rows) :]

    def _take_volumes(
        self,
        service: Service,
        volumes: GroupVolumes,
        placed: Iterable[UnassignedTask],
        nodes: list[NodeId],
    ) -> None:
        """Give the volumes of the tasks placed on these nodes copies there."""
        if not volumes.per_task:
            self.volumes.take(service, volumes.mounts, nodes)
            return
        for one, node_id in zip(placed, nodes, strict=False):
            self.volumes.take(service, volumes.of_slot(one.vacancy.slot), [node_id])

    def _place_bound(
        self,
        plan: Plan,
        demand: Demand,
        unassigned: list[UnassignedTask],
        volumes: GroupVolumes,
    ) -> list[UnassignedTask]:
        """Place some; return those that their own nodes cannot take."""
        table, most = self._state.node_table, max(plan.writes_left, BOUND_LEAST)
        slot = unassigned[0].vacancy.slot
        demand = self._required(self._with_rooms(demand), volumes, slot)
        room = capacity(self.ledger, demand)
        own_rows = [table.rows.get(one.vacancy.node_id, -1) for one in unassigned]
        fitting = [row for row in own_rows if row >= 0 and room[row] > 0]
        if self.volumes.homeless(plan.service, volumes.shared):
            most = 1  # it chooses the node of the volumes
        rows = np.array(fitting[:most], np.int64)
        taken = dict.fromkeys(self._take(rows, demand).tolist())
        cut = dict.fromkeys(fitting[most:])
        if cut:
            slots = zip(unassigned, own_rows, strict=True)
            plan.cut(min(one.vacancy.slot for one, row in slots if row in cut))
        placed = [one for one, row in zip(unassigned, own_rows, strict=True) if row in taken]
        nodes = [one.vacancy.node_id for one in placed]
        self._take_volumes(plan.service, volumes, placed, nodes)
        self._assign(plan, placed, nodes)
        return [
            one
            for one, row in zip(unassigned, own_rows, strict=True)
            if row not in taken and row not in cut
        ]

    def _at_home(self, demand: Demand, volumes: GroupVolumes, slot: int) -> Demand:
        """The demand, limited to the nodes of the volumes that the slot's task mounts."""
        if not (names := volumes.names(slot)):
            return demand
        found = homes(
            self._state, names, self.volumes.named, service=volumes.service, left=volumes.left
        )
        return demand._replace(homes=found)

    def _required(self, demand: Demand, volumes: GroupVolumes, slot: int) -> Demand:
        """The demand, limited to nodes with all that the slot's task does not start without."""
        demand = self._at_home(demand, volumes, slot)
        return demand._replace(homes=strict(demand.homes))

    def _with_rooms(self, demand: Demand) -> Demand:
        has_drivers = drives_volumes(self._state, demand.template)
        table = self._state.node_table
        return with_rooms(demand, table, self.blocks, has_drivers=has_drivers)

    def _take(self, rows: IntColumn, demand: Demand) -> IntColumn:
        """Reserve what tasks on these rows need; return the rows where all of it was free."""
        chosen = demand.template.task_ips
        networks = [
            (self.blocks(network_id), chosen.get(network_id, ""))
            for network_id in demand.footprint.networks
        ]
        if networks:
            taken = [row for row in rows.tolist() if self._take_addresses(row, networks)]
            rows = np.array(taken, np.int64)
        self.ledger.place(rows, demand.footprint)
        return rows

    def _take_addresses(self, row: int, networks: list[tuple[Blocks | None, str]]) -> bool:
        table = self._state.node_table
        node_id, number = table.ids[row], int(table.number[row])
        if not all(
            blocks is not None and blocks.fits(node_id, number, address=address)
            for blocks, address in networks
        ):
            return False
        for blocks, address in networks:
            if blocks is not None:
                blocks.take(node_id, number, address)
        return True

    def _assign(self, plan: Plan, unassigned: list[UnassignedTask], nodes: list[NodeId]) -> None:
        for one, node_id in zip(unassigned, nodes, strict=True):
            if one.task is not None:
                plan.changed[one.task.id] = replace(
                    one.task,
                    node_id=node_id,
                    state=_ASSIGNED,
                    status_at=self._now,
                    detail=NO_DETAIL,
                )
        plan.changed.update(self._created(plan, unassigned, nodes, None))
        if nodes and plan.service.spec.mode.is_container and not plan.service.pinned_node:
            plan.record(replace(plan.service, pinned_node=nodes[0]))

    def _created(
        self,
        plan: Plan,
        unassigned: list[UnassignedTask],
        nodes: list[NodeId],
        why: list[str] | None,
    ) -> dict[TaskId, Task]:
        """New tasks for those that are not stored: pending if `why` is given, else assigned."""
        missing = sum(one.task is None for one in unassigned)
        ids = iter(self._ids.draw(missing) if missing else ())
        service_id, now = plan.service.id, self._now
        policy = plan.service.spec.task_template.restart_policy
        state = _ASSIGNED if why is None else _PENDING
        created = {}
        for index, (one, node_id) in enumerate(zip(unassigned, nodes, strict=True)):
            if one.task is None:
                vacancy = one.vacancy
                task_id = cast("TaskId", next(ids))
                if vacancy.desired_state is _READY:
                    delay = delay_before(policy, vacancy.consecutive_restarts)
                    plan.wake_at(after(now, delay))
                created[task_id] = Task(
                    task_id,
                    service_id,
                    vacancy.slot,
                    vacancy.version,
                    now,
                    node_id or vacancy.node_id,
                    vacancy.desired_state,
                    state,
                    now,
                    vacancy.restarts,
                    explained(NO_DETAIL, why[index]) if why else NO_DETAIL,
                    vacancy.restarted_at,
                    vacancy.consecutive_restarts,
                    vacancy.failed_update,
                )
        events = Counter(one.vacancy.why for one in unassigned if one.task is None)
        for event, count in events.items():
            if event is not None:
                plan.report(*event, count)
        return created

    def _keep_waiting(self, plan: Plan, task: Task, why: str) -> None:
        if task.state is _PENDING and task.detail.message == why:
            return
        period = DEPENDENCY_MESSAGE_PERIOD if why == plan.waits_for else EXPLAIN_PERIOD
        at = after(task.status_at, period)
        if task.state is _PENDING and task.detail.message and at > self._now:
            plan.wake_at(at)
            return
        plan.changed[task.id] = replace(
            task, state=_PENDING, status_at=self._now, detail=explained(task.detail, why)
        )
