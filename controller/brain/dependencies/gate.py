"""Releases a service once the conditions of its dependencies hold, and begins the update of one
whose dependency was updated (`restart: true`). PURE.

What was released and seen is stored with the service (`Service.gate`), so a new leader goes on from
there: a dependency that dies later stops nobody.
"""

from msgspec.structs import replace

from controller.brain.dependencies.conditions import Judged, message_of, unmet
from controller.brain.orchestrator.plan import Plan
from controller.brain.revisions import revised
from pyswarm_core.clock import Instant
from pyswarm_core.decision import EventKind
from pyswarm_core.errors import Conflict
from pyswarm_core.indexes.dependents import awaits
from pyswarm_core.objects import Service, Version
from pyswarm_core.stacks.dependencies import SeenDependency
from pyswarm_core.state import State


def pass_gate(plan: Plan, state: State, now: Instant, judged: Judged) -> bool:
    """Plan what follows from the service's dependencies; return whether the next decision goes on,
    because this one writes the service. Sets `plan.waits_for` if tasks have to wait. `judged`: see
    `unmet`.
    """
    service = plan.service
    if not service.spec.depends_on or service.spec.stopped:
        return False
    if awaits(service):
        if found := unmet(state, service, judged):
            plan.waits_for = message_of(found)
            return False
        gate = replace(
            service.gate, released_version=service.spec_version, seen=_seen(state, service)
        )
        plan.record(replace(service, gate=gate))
    elif (after := _followed(state, service, now)) is not None:
        plan.record(after)
        if after.spec_version != service.spec_version:
            plan.report(EventKind.UPDATE_STARTED, "a service that it depends on was updated")
    else:
        return False
    plan.cut(0)
    return True


def _seen(state: State, service: Service) -> tuple[SeenDependency, ...]:
    """The present state of the dependencies with `restart`; a dependency that no longer exists
    keeps its last one.
    """
    before = {one.name: one for one in service.gate.seen}
    seen = []
    for name in [one.service for one in service.spec.depends_on if one.restart]:
        service_id = state.service_of_name.get(name)
        found = state.services.get(service_id) if service_id else None
        if found is not None:
            version = found.template_version
            seen.append(SeenDependency(name=name, id=found.id, template_version=version))
        elif name in before:
            seen.append(before[name])
    return tuple(seen)


def _followed(state: State, service: Service, now: Instant) -> Service | None:
    """The service with the present state of its dependencies, and with an update of its tasks if a
    dependency was updated or replaced. None if nothing changed since it was recorded.
    """
    seen = _seen(state, service)
    if seen == service.gate.seen:
        return None
    before = {one.name: one for one in service.gate.seen}
    changed = replace(service, gate=replace(service.gate, seen=seen))
    if all(before.get(one.name, one) == one for one in seen):
        return changed
    template = service.spec.task_template
    spec = replace(
        service.spec, task_template=replace(template, force_update=template.force_update + 1)
    )
    since = service.updated_at if service.previous_specs else service.created_at
    version = Version(index=service.version.index + 1)
    updated = replace(changed, version=version, updated_at=now, updated_by=None)
    try:
        return revised(state, updated, spec, since)
    except Conflict:
        return None  # it has tasks of too many specs: once some have ended
