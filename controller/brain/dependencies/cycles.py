"""Services that depend on each other in a circle. PURE."""

from pyswarm_core.specs import ServiceSpec
from pyswarm_core.stacks.dependencies import cycle
from pyswarm_core.state import State


def cycle_of(state: State, spec: ServiceSpec) -> list[str]:
    """The names along which a service with this spec depends on itself, the first one again at the
    end; empty if it does not.
    """
    if not spec.depends_on:
        return []

    def needed(name: str) -> list[str]:
        if name == spec.name:
            return [one.service for one in spec.depends_on]
        service_id = state.service_of_name.get(name)
        service = state.services.get(service_id) if service_id else None
        return [one.service for one in service.spec.depends_on] if service else []

    return cycle(spec.name, needed)
