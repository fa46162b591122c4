"""Decides what should change, given the whole state. PURE; `state` is never changed.

`decide` covers the services that changed or fell due and those whose nodes changed. For each, its
orchestrator makes a plan, the scheduler places the tasks that need a node, and the allocator
assigns the addresses that they need. A second decision after the writes were applied is empty. An
error for one service is part of the decision (`Decision.failed`); the other services are decided.
"""

from collections.abc import Iterable, Iterator

from controller.brain.draft import Draft
from controller.brain.orchestrator import container_service, global_service
from controller.brain.orchestrator.enforce import evictions
from controller.brain.orchestrator.modes import orchestrator_of
from controller.brain.orchestrator.plan import Plan
from controller.brain.orchestrator.rounds import in_round
from controller.brain.orchestrator.slots import discard
from controller.brain.scheduler.retries import Retries
from controller.brain.volumes import left_behind, removed
from pyswarm_core.clock import Instant
from pyswarm_core.decision import BEGINNING, Decision, Dirty, EventKind
from pyswarm_core.errors import told
from pyswarm_core.ids import IdSource, ServiceId
from pyswarm_core.limits import DECISION_COST
from pyswarm_core.objects import Service
from pyswarm_core.specs import ContainerMode
from pyswarm_core.state import State
from pyswarm_core.states import is_terminal


def decide(
    state: State, dirty: Dirty, now: Instant, ids: IdSource, *, cost: int = DECISION_COST
) -> Decision:
    """What to write, when to decide again, and the events to record. `cost` bounds the work, in
    units of DECISION_COST.
    """
    changed = sorted(dirty.nodes)
    slots, is_all = evictions(state, changed, dirty.quarantined)
    for service_id, lacking in global_service.lacking(state, changed).items():
        slots.setdefault(service_id, {}).update(lacking)
    draft = Draft(state, now, ids, cost)
    draft.unfinished = not is_all
    retries = Retries(state, dirty, draft.placing.ledger, draft.placing.blocks)
    for service_id in _in_turn(state, dirty, slots, retries):
        service = state.services.get(service_id)
        if service is None:
            continue
        cursor = dirty.resumed.get(service_id, BEGINNING)
        if draft.room == 0:
            draft.again[service_id] = cursor
            continue
        partial = service_id not in dirty.services and service_id not in state.unplaced
        plan = Plan(service, partial=partial, cursor=cursor, room=draft.room)
        looked_at = slots.get(service_id, {})
        try:
            if service.removing:
                _remove(plan, state, now, draft)
            else:
                orchestrator_of(service).reconcile(plan, state, looked_at, now)
        except Exception as error:
            draft.failed[service_id] = told(error)
            continue
        draft.take(plan)
    if dirty.cluster:
        draft.renew_keys()
    draft.give_back()
    return draft.decision(retries.asked)


def _in_turn(
    state: State, dirty: Dirty, slots: Iterable[ServiceId], retries: Retries
) -> Iterator[ServiceId]:
    """The services to decide, each once. The one that has waited longest for a node comes first.

    For a waiting service that has not changed, whether to decide it is checked last, just before.
    """
    left_alone = {one for one in dirty.quarantined if one not in dirty.services}
    # Services with many unsettled slots come last: a part of them is decided.
    named = dict.fromkeys(
        sorted(
            {*slots, *dirty.services},
            key=lambda one: (len(state.tasks_of_service(one).unsettled), one),
        )
    )
    for service_id in state.unplaced.in_order({**named, **retries.services}):
        if service_id in left_alone:
            continue
        if service_id in named or _could_be_placed(retries, service_id):
            yield service_id
    for service_id in named:
        if service_id not in state.unplaced and service_id not in left_alone:
            yield service_id


def _could_be_placed(retries: Retries, service_id: ServiceId) -> bool:
    try:
        return retries.could_be_placed(service_id)
    except Exception:
        return True  # deciding it fails in the same way, and names the service


def _remove(plan: Plan, state: State, now: Instant, draft: Draft) -> None:
    tasks = state.tasks_of_service(plan.service.id)
    if not tasks.slots:
        draft.removed_services.append(plan.service.id)
        _remove_volumes(plan.service, state, draft)
        plan.report(EventKind.SERVICE_REMOVED, "its last task is gone")
        return
    if all(is_terminal(task.state) for task in tasks):
        at = container_service.shown_until(plan.service, tasks)
        if at > now:
            plan.wake_at(at)
            return
    for number in in_round(plan, tasks.slots):
        if plan.is_full:
            plan.cut(number)
            return
        discard(plan, state, number, now)
    removed = len(plan.removed)
    if removed >= len(tasks.slots) and removed == sum(map(len, tasks.slots.values())):
        # A later decision removes the service, after its last task: if only part of a decision is
        # stored, neither is left without the other.
        plan.cut(0)


def _remove_volumes(service: Service, state: State, draft: Draft) -> None:
    """The anonymous volumes of a container with --rm, or that is removed with its volumes."""
    mode = service.spec.mode
    if service.remove_volumes or (isinstance(mode, ContainerMode) and mode.auto_remove):
        for volume in left_behind(state, service):
            if (kept := removed(volume, state.nodes)) is not None:
                draft.volumes.append(kept)
            else:
                draft.removed_volumes.append(volume.id)
