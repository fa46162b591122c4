"""`depends_on`, also what links and shared volumes imply. PURE."""

from compose.mapping.scope import Service
from pyswarm_core.docker import checks
from pyswarm_core.stacks.dependencies import Dependency, DependencyCondition


def dependencies(service: Service) -> tuple[Dependency, ...]:
    """What the service waits for. The loader tells of optional services that do not exist."""
    found = []
    for name, need in sorted(service.node.items("depends_on")):
        if (other := service.scope.services.get(name)) is None:
            continue
        condition = DependencyCondition(need.text("condition") or DependencyCondition.STARTED)
        if condition is DependencyCondition.HEALTHY and _has_no_check(other):
            text = f"{name} has no health check, so that it is never healthy: expected"
            at = ("depends_on", name, "condition")
            service.fault(need, at, f"{text} service_started, or a healthcheck of {name}")
        required, restarts = need.get("required"), need.get("restart")
        found.append(
            Dependency(
                service=other.full,
                condition=condition,
                required=required is None or bool(required.value),
                restart=restarts is not None and bool(restarts.value),
            )
        )
    return tuple(found)


def _has_no_check(service: Service) -> bool:
    """Whether its check is switched off; one that is not mentioned may be the image's."""
    test = service.texts("healthcheck", "test")
    return bool(service.value("healthcheck", "disable")) or test[:1] == (checks.NONE,)
