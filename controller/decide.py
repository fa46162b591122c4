"""The brain: what should change, given all that is known. PURE; `state` is never changed.

`decide` looks at the services that changed or fell due and at those whose nodes changed, lets each
one's orchestrator plan, places what needs a node, and hands out what placed tasks need of networks.
Deciding again after the writes were applied finds nothing to do.
"""

from controller.draft import Draft
from controller.orchestrator import global_service, replicated_service
from controller.orchestrator.enforce import evictions
from controller.orchestrator.plan import Plan
from controller.orchestrator.slots import discard
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Decision, Dirty, NoteKind
from pyswarm_core.ids import IdSource, ServiceId
from pyswarm_core.limits import DECISION_TASKS
from pyswarm_core.state import State


def decide(state: State, dirty: Dirty, now: Instant, ids: IdSource) -> Decision:
    """What to write, when to look again, and what to tell. At most about DECISION_TASKS tasks."""
    changed = sorted(dirty.nodes)
    evicted = evictions(state, changed)
    draft = Draft(state, now, ids)
    for service_id in _services(state, dirty, evicted):
        service = state.services.get(service_id)
        if service is None:
            continue
        budget = DECISION_TASKS - draft.size
        if budget <= 0:
            draft.again[service_id] = None
            continue
        plan = Plan(service)
        slots = evicted.get(service_id, {})
        if service.removing:
            _remove(plan, state, now, draft)
        elif service.spec.mode.global_ is not None:
            global_service.reconcile(plan, state, slots, now, budget)
        else:
            replicated_service.reconcile(plan, state, slots, now, budget)
        draft.take(plan, budget)
    if dirty.cluster:
        draft.renew_keys()
    if changed:
        draft.look_at(sorted(one.id for one in state.networks.values() if one.blocks))
    return draft.decision()


def _services(
    state: State, dirty: Dirty, evicted: dict[ServiceId, dict[int, None]]
) -> list[ServiceId]:
    """Those to decide, each once. Who waits longest for a node comes first."""
    chosen: dict[ServiceId, None] = dict(state.unplaced)
    chosen.update(dict.fromkeys(sorted(evicted)))
    chosen.update(dict.fromkeys(sorted(dirty.services)))
    if dirty.nodes:
        chosen.update(
            (service_id, None)
            for service_id, service in state.services.items()
            if service.spec.mode.global_ is not None
        )
    return list(chosen)


def _remove(plan: Plan, state: State, now: Instant, draft: Draft) -> None:
    tasks = state.tasks_of_service(plan.service.id)
    if not tasks.slots:
        draft.removed_services.append(plan.service.id)
        plan.note(NoteKind.SERVICE_REMOVED, "its last task is gone")
        return
    for number in sorted(tasks.slots):
        discard(plan, state, number, now)
    # The service goes in a decision of its own, after its last task: neither is lost for the other.
    plan.cut = len(plan.removed) == sum(len(held) for held in tasks.slots.values())
