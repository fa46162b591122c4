"""Which services are decided because others changed. PURE."""

from collections.abc import Iterable

from pyswarm_core.ids import ServiceId
from pyswarm_core.state import State


def concerned(
    state: State, changed: Iterable[ServiceId], *, nodes_changed: bool = False
) -> dict[ServiceId, None]:
    """The services that wait for one that changed, follow it, or end after it. After a change of
    nodes also those that wait for a global service, which may have a task on others.
    """
    found: dict[ServiceId, None] = {}
    if state.dependents.is_empty:
        return found
    for service_id in sorted(changed):
        if (service := state.services.get(service_id)) is not None:
            found.update(dict.fromkeys(state.dependents.concerned(service)))
    for service_id in state.global_services if nodes_changed else ():
        name = state.services[service_id].spec.name
        found.update(state.dependents.waiting_for(name))
    return found
