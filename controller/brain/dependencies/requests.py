"""What a request may say of dependencies. PURE."""

from controller.brain.dependencies.cycles import cycle_of
from pyswarm_core.errors import invalid
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.stacks.dependencies import DependencyCondition
from pyswarm_core.state import State


def require_dependencies(state: State, spec: ServiceSpec) -> None:
    """Raise InvalidArgument for a service that would wait for itself by way of others, or for the
    health of a service whose health check is switched off. A dependency need not exist yet.
    """
    if path := cycle_of(state, spec):
        reason = f"services cannot depend on each other in a circle: {' → '.join(path)}"
        raise invalid("depends_on", path[1], reason)
    for one in spec.depends_on:
        service_id = state.service_of_name.get(one.service)
        other = state.services.get(service_id) if service_id else None
        if one.condition is not DependencyCondition.HEALTHY or other is None:
            continue
        if is_switched_off(other.spec):
            reason = (
                "its health check is switched off, which condition service_healthy needs: expected"
                " service_started, or a service with a health check"
            )
            raise invalid("depends_on", one.service, reason)


def is_switched_off(spec: ServiceSpec) -> bool:
    """Whether the service's tasks have no health check, whatever their image says."""
    return spec.task_template.container_spec.healthcheck.test[:1] == ("NONE",)
