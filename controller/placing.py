"""Gives a plan's tasks their nodes. PURE.

Brings together what scheduler and allocator know: a node can take a task if the filters let it and
its networks have addresses left there. Tasks that find no node wait and say why.
"""

from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from controller.allocator.blocks import Blocks
from controller.orchestrator.plan import Plan, Vacancy, explained
from controller.scheduler.explain import message, messages_by_row
from controller.scheduler.filters import Demand, capacity
from controller.scheduler.ledger import Ledger
from controller.scheduler.ranking import spread
from pyswarm_core.clock import Instant, after
from pyswarm_core.decision import NoteKind
from pyswarm_core.ids import IdSource, NetworkId, NodeId, TaskId
from pyswarm_core.limits import EXPLAIN_PERIOD, FAILURE_WINDOW, FAILURES_PENALISED
from pyswarm_core.nodetable import IntColumn
from pyswarm_core.objects import NO_DETAIL, Network, Service, Task
from pyswarm_core.state import Footprint, State, is_wanted
from pyswarm_core.states import TaskState

_ASSIGNED = TaskState.ASSIGNED
_PENDING = TaskState.PENDING
_FAILED = frozenset({TaskState.FAILED, TaskState.REJECTED})
_NOWHERE = NodeId("")


class Candidate(NamedTuple):
    """A task to place: one that waits, or one to be made."""

    vacancy: Vacancy
    task: Task | None = None


class Placing:
    """The nodes' resources and networks' blocks while one decision places tasks."""

    def __init__(self, state: State, now: Instant, ids: IdSource) -> None:
        self._state = state
        self._now = now
        self._ids = ids
        self._ledger = Ledger(state.node_table)
        self._blocks: dict[NetworkId, Blocks] = {}

    def place(self, plan: Plan) -> None:
        """Find nodes for all that the plan wants placed; its tasks become part of its changes."""
        waiting = [_candidate(task) for task in plan.pending.values()]
        waiting += [Candidate(plan.vacancies[number]) for number in sorted(plan.vacancies)]
        bound = [candidate for candidate in waiting if candidate.vacancy.node_id]
        free = [candidate for candidate in waiting if not candidate.vacancy.node_id]
        demand = demand_of(self._state, plan, self._now)
        if bound:
            self._place_bound(plan, demand, bound)
        if free:
            self._place_free(plan, demand, free)

    def blocks(self, network_id: NetworkId) -> Blocks | None:
        """The blocks of a network as this decision leaves them; None if it does not exist."""
        found = self._blocks.get(network_id)
        network = self._state.networks.get(network_id)
        if found is None and network is not None:
            load = self._state.network_load.get(network_id, {})
            found = self._blocks[network_id] = Blocks(network, load)
        return found

    def networks(self) -> tuple[Network, ...]:
        """The networks whose blocks changed, after giving back what nobody needs."""
        changed = []
        for network_id in sorted(self._blocks):
            blocks = self._blocks[network_id]
            blocks.release(self._state.node_of_number, self._state.node_table)
            network = blocks.result(self._now)
            if network is not None:
                changed.append(network)
        return tuple(changed)

    def _place_free(self, plan: Plan, demand: Demand, candidates: list[Candidate]) -> None:
        rows: list[int] = []
        while len(rows) < len(candidates):
            demand = self._with_rooms(demand)
            room = capacity(self._ledger, demand)
            chosen = spread(self._ledger, demand, room, len(candidates) - len(rows))
            taken = self._take(chosen, demand)
            rows += taken.tolist()
            np.add.at(demand.on_node, taken, 1)
            # Blocks that ran out under our hands show in the next round's rooms.
            if len(taken) == len(chosen):
                break
        ids = self._state.node_table.ids
        nodes = [ids[row] for row in rows]
        why = ""
        if len(nodes) < len(candidates):
            why = message(self._ledger, self._with_rooms(demand))
            plan.note(NoteKind.TASK_UNPLACED, why, len(candidates) - len(nodes))
        nodes += [_NOWHERE] * (len(candidates) - len(nodes))
        self._settle(plan, candidates, nodes, [why] * len(candidates))

    def _place_bound(self, plan: Plan, demand: Demand, candidates: list[Candidate]) -> None:
        table = self._state.node_table
        demand = self._with_rooms(demand)
        room = capacity(self._ledger, demand)
        wanted = [table.rows.get(candidate.vacancy.node_id, -1) for candidate in candidates]
        rows = np.array([row for row in wanted if row >= 0 and room[row] > 0], np.int64)
        taken = dict.fromkeys(self._take(rows, demand).tolist())
        nodes, why = [], []
        explain = None
        for row in wanted:
            fits = row in taken
            if not fits and explain is None:
                explain = messages_by_row(self._ledger, self._with_rooms(demand))
            nodes.append(table.ids[row] if fits else _NOWHERE)
            why.append("" if fits or explain is None else explain(row))
        self._settle(plan, candidates, nodes, why)

    def _with_rooms(self, demand: Demand) -> Demand:
        rooms = []
        for network_id in demand.footprint.networks:
            blocks = self.blocks(network_id)
            if blocks is None:
                rooms.append((network_id, np.zeros(len(demand.on_node), np.int64)))
            elif (room := blocks.rooms(self._state.node_table)) is not None:
                rooms.append((blocks.network.spec.name, room))
        return demand._replace(rooms=tuple(rooms))

    def _take(self, rows: IntColumn, demand: Demand) -> IntColumn:
        """Set aside what tasks on these rows need; return the rows that got all of it."""
        networks = [self.blocks(network_id) for network_id in demand.footprint.networks]
        if networks:
            taken = [row for row in rows.tolist() if self._take_addresses(row, networks)]
            rows = np.array(taken, np.int64)
        self._ledger.place(rows, demand.footprint)
        return rows

    def _take_addresses(self, row: int, networks: list[Blocks | None]) -> bool:
        table = self._state.node_table
        node_id, number = table.ids[row], int(table.number[row])
        if not all(blocks is not None and blocks.fits(node_id, number) for blocks in networks):
            return False
        for blocks in networks:
            if blocks is not None:
                blocks.take(node_id, number)
        return True

    def _settle(
        self, plan: Plan, candidates: list[Candidate], nodes: list[NodeId], why: list[str]
    ) -> None:
        """Write each candidate as assigned to its node, or as waiting and why."""
        missing = sum(candidate.task is None for candidate in candidates)
        ids = iter(self._ids.draw(missing) if missing else ())
        service_id, version, now = plan.service.id, plan.service.spec_version, self._now
        for (vacancy, task), node_id, reason in zip(candidates, nodes, why, strict=True):
            if task is not None:
                self._settle_waiting(plan, task, node_id, reason)
                continue
            task_id = TaskId(next(ids))
            plan.changed[task_id] = Task(
                task_id,
                service_id,
                vacancy.slot,
                version,
                now,
                node_id or vacancy.node_id,
                vacancy.desired_state,
                _ASSIGNED if node_id else _PENDING,
                now,
                vacancy.restarts,
                NO_DETAIL if node_id else explained(NO_DETAIL, reason),
            )

    def _settle_waiting(self, plan: Plan, task: Task, node_id: NodeId, why: str) -> None:
        now = self._now
        if node_id:
            plan.changed[task.id] = replace(
                task, node_id=node_id, state=_ASSIGNED, status_at=now, detail=NO_DETAIL
            )
        elif task.state is not _PENDING or task.detail.message != why:
            at = after(task.status_at, EXPLAIN_PERIOD)
            if at > now and task.detail.message:
                plan.wake_at(at)
                return
            plan.changed[task.id] = replace(
                task, state=_PENDING, status_at=now, detail=explained(task.detail, why)
            )


def demand_of(state: State, plan: Plan, now: Instant) -> Demand:
    """What the service's current template asks of a node, given its tasks as the plan leaves them."""
    table = state.node_table
    template = plan.service.spec.task_template
    tasks = state.tasks_of_service(plan.service.id)
    rows = [
        table.rows.get(task.node_id, -1)
        for held in tasks.slots.values()
        for task in held
        if task.node_id and task.state >= _ASSIGNED and is_wanted(plan.changed.get(task.id, task))
    ]
    failed = [
        table.rows.get(task.node_id, -1)
        for number in tasks.storied
        for task in tasks.slots[number]
        if task.state in _FAILED and after(task.status_at, FAILURE_WINDOW) > now
    ]
    failing = _per_row(failed, len(table.number)) >= FAILURES_PENALISED if failed else None
    return Demand(
        template,
        footprint_of(plan.service),
        _per_row(rows, len(table.number)),
        None if failing is None else failing.astype(np.int64),
    )


def footprint_of(service: Service) -> Footprint:
    """What a task of the service's current template takes of its node."""
    template = service.spec.task_template
    reservations = template.resources.reservations
    return Footprint(
        reservations.nano_cpus,
        reservations.memory_bytes,
        tuple(NetworkId(attachment.target) for attachment in template.networks),
    )


def _per_row(rows: list[int], length: int) -> IntColumn:
    found = np.array([row for row in rows if row >= 0], np.int64)
    return np.bincount(found, minlength=length).astype(np.int64)


def _candidate(task: Task) -> Candidate:
    return Candidate(Vacancy(task.slot, task.desired_state, task.restarts, task.node_id), task)
