"""The brain: what should change, given all that is known. PURE; `state` is never changed.

`decide` looks at the services that changed or fell due and at those whose nodes changed, lets each
one's orchestrator plan, places what needs a node, and hands out what placed tasks need of networks.
Deciding again after the writes were applied finds nothing to do. An error for one service is part
of the decision (`Decision.failed`); the others are decided.
"""

from collections.abc import Iterable, Iterator

from controller.brain.draft import Draft
from controller.brain.orchestrator import global_service
from controller.brain.orchestrator.enforce import evictions
from controller.brain.orchestrator.modes import orchestrator_of
from controller.brain.orchestrator.plan import Plan
from controller.brain.orchestrator.rounds import in_round
from controller.brain.orchestrator.slots import discard
from controller.brain.scheduler.retries import Retries
from pyswarm_core.clock import Instant
from pyswarm_core.decision import BEGINNING, Decision, Dirty, EventKind
from pyswarm_core.errors import told
from pyswarm_core.ids import IdSource, ServiceId
from pyswarm_core.limits import DECISION_COST
from pyswarm_core.state import State


def decide(
    state: State, dirty: Dirty, now: Instant, ids: IdSource, *, cost: int = DECISION_COST
) -> Decision:
    """What to write, when to look again, and what to tell; it costs about as much as `cost` says,
    in the units of DECISION_COST.
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
    """Those to decide, each once. Who waits longest for a node comes first.

    Whether a waiting service that did not change itself is decided is asked when its turn comes.
    """
    left_alone = {one for one in dirty.quarantined if one not in dirty.services}
    # Huge ones last: what there is room for is done of them.
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
        return True  # deciding it fails likewise, and says of whom


def _remove(plan: Plan, state: State, now: Instant, draft: Draft) -> None:
    tasks = state.tasks_of_service(plan.service.id)
    if not tasks.slots:
        draft.removed_services.append(plan.service.id)
        plan.report(EventKind.SERVICE_REMOVED, "its last task is gone")
        return
    for number in in_round(plan, tasks.slots):
        if plan.is_full:
            plan.cut(number)
            return
        discard(plan, state, number, now)
    removed = len(plan.removed)
    if removed >= len(tasks.slots) and removed == sum(map(len, tasks.slots.values())):
        # The service goes in a decision of its own, after its last task: neither is lost for the
        # other.
        plan.cut(0)
