"""Decides what should change, given the whole state. PURE; `state` is never changed.

`decide` covers the services that changed or fell due and those whose nodes changed. For each, its
orchestrator makes a plan, the scheduler places the tasks that need a node, and the allocator
assigns the addresses that they need. A second decision after the writes were applied is empty. An
error for one service is part of the decision (`Decision.failed`); the other services are decided.
"""

from collections.abc import Container, Iterable, Iterator
from itertools import chain

from controller.brain.dependencies.concerned import concerned
from controller.brain.dependencies.ending import held_back, waits_until
from controller.brain.dependencies.gate import pass_gate
from controller.brain.draft import Draft
from controller.brain.evacuation import evacuated, next_look
from controller.brain.following import brought_forward
from controller.brain.orchestrator import container_service, global_service
from controller.brain.orchestrator.enforce import evictions
from controller.brain.orchestrator.modes import orchestrator_of
from controller.brain.orchestrator.plan import Plan
from controller.brain.orchestrator.rounds import in_round
from controller.brain.orchestrator.slots import discard
from controller.brain.scheduler.retries import Retries
from controller.brain.volumes import left_behind, removed
from controller.brain.volumework import Upkeep, upkeep
from pyswarm_core.clock import Instant
from pyswarm_core.decision import BEGINNING, WOKEN, Decision, Dirty, EventKind
from pyswarm_core.errors import with_place
from pyswarm_core.ids import IdSource, ServiceId
from pyswarm_core.indexes.dependents import is_ending
from pyswarm_core.limits import DECISION_COST
from pyswarm_core.objects import Service
from pyswarm_core.payloads.payload import Payload
from pyswarm_core.specs import ContainerMode
from pyswarm_core.state import State
from pyswarm_core.states import is_terminal
from pyswarm_core.volumes.volume import VolumeId


def decide(
    state: State, dirty: Dirty, now: Instant, ids: IdSource, *, cost: int = DECISION_COST
) -> Decision:
    """What to write, when to decide again, and the events to record. `cost` bounds the work, in
    units of DECISION_COST.
    """
    changed = sorted(dirty.nodes)
    held = held_back(state, now)
    left_alone = {*dirty.quarantined, *held} if held else dirty.quarantined
    slots, is_all = evictions(state, changed, left_alone)
    woken = concerned(state, (), nodes_changed=bool(changed))
    seen: dict[ServiceId, bool] = {}
    for service_id, lacking in global_service.lacking(state, changed).items():
        slots.setdefault(service_id, {}).update(lacking)
    draft = Draft(state, now, ids, cost)
    draft.unfinished = not is_all
    retries = Retries(state, dirty, draft.placing.ledger, draft.placing.blocks)
    named = {*slots, *dirty.services, *retries.services}
    in_turn = _in_turn(state, dirty, slots, retries)
    for service_id in chain(in_turn, _last(woken, seen, dirty)):
        is_whole = service_id in dirty.services or service_id in woken
        is_whole |= service_id in state.unplaced
        seen[service_id] = is_whole
        service = state.services.get(service_id)
        if service is None:
            continue
        begin = BEGINNING if service_id in named else WOKEN
        cursor = dirty.resumed.get(service_id, begin)
        if draft.room == 0:
            draft.again[service_id] = cursor
            continue
        if service_id in dirty.services and not cursor.slot and not cursor.woken:
            woken.update(concerned(state, (service_id,)))
        plan = Plan(service, partial=not is_whole, cursor=cursor, room=draft.room)
        looked_at = slots.get(service_id, {})
        try:
            _reconcile(plan, state, looked_at, now, draft)
        except Exception as error:
            draft.failed[service_id] = with_place(error)
            continue
        draft.take(plan)
    draft.again |= {one: WOKEN for one in woken if not seen.get(one, True)}
    if dirty.cluster:
        draft.renew_keys()
    draft.give_back()
    draft.upkeep = _upkeep(state, dirty, now, draft.written_volumes())
    return draft.decision(retries.asked)


def _reconcile(
    plan: Plan, state: State, looked_at: Iterable[int], now: Instant, draft: Draft
) -> None:
    """Plan what the service needs. While one waits to end, nothing is decided about it."""
    service = plan.service
    if is_ending(service) and (until := waits_until(state, service, now)):
        plan.wake_at(until)
    elif service.removing:
        _remove(plan, state, now, draft)
    elif (left := brought_forward(state, service, now)) is not None:
        _bring_forward(plan, *left)
    elif not pass_gate(plan, state, now, draft.judged):
        orchestrator_of(service).reconcile(plan, state, looked_at, now)


def _upkeep(state: State, dirty: Dirty, now: Instant, written: Container[VolumeId]) -> Upkeep:
    """Volumes with work, and the volumes of drained nodes, which are checked after a change of
    nodes or volumes and periodically. Volumes in `written`, which this decision has written
    already, are left out.
    """
    found = upkeep(state, now, written)
    if not (dirty.nodes or dirty.volumes):
        return found._replace(wake=min(found.wake, next_look(state, now)))
    more = evacuated(state, now, written)
    return Upkeep(
        found.volumes + more.volumes,
        found.services + more.services,
        found.events + more.events,
        min(found.wake, more.wake),
    )


def _in_turn(
    state: State, dirty: Dirty, slots: Iterable[ServiceId], retries: Retries
) -> Iterator[ServiceId]:
    """The services to decide, each once; first the one that has waited longest for a node. Whether
    a waiting service that has not changed is to be decided is checked just before its turn.
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


def _last(
    woken: Iterable[ServiceId], seen: Container[ServiceId], dirty: Dirty
) -> Iterator[ServiceId]:
    """The woken services that were not in turn. They come after what woke them, which is decided
    even if the decision has room for only one.
    """
    yield from [one for one in woken if one not in seen and one not in dirty.quarantined]


def _could_be_placed(retries: Retries, service_id: ServiceId) -> bool:
    try:
        return retries.could_be_placed(service_id)
    except Exception:
        return True  # deciding it fails in the same way, and names the service


def _bring_forward(plan: Plan, service: Service, made: Payload) -> None:
    """Write the service with the version of a secret or config; the next decision is about that."""
    plan.record(service)
    plan.report(EventKind.UPDATE_STARTED, f"{made.title}: continues what another leader began")
    plan.cut(0)


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
