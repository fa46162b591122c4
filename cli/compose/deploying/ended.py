"""Services that have ended by themselves: `up` starts them again, as in Compose. PURE."""

from collections.abc import Iterable

from cli.compose.members import Held, Member
from pyswarm_core.docker.containers.views import ContainerState
from pyswarm_core.specs import RestartCondition

_ENDED = (ContainerState.EXITED, ContainerState.DEAD)


def ended(
    members: Iterable[Member], found: Iterable[Held], *, completed: bool
) -> tuple[Member, ...]:
    """The services all of whose containers have ended, and that no policy starts again. Of one
    with several replicas some of which run, all stay as they are. With `completed` also those
    whose containers all ended with 0.
    """
    held: dict[str, list[Held]] = {}
    for one in found:
        if one.number:
            held.setdefault(one.view.service_id, []).append(one)
    return tuple(
        member
        for member in members
        if not member.service.spec.stopped
        and member.service.spec.task_template.restart_policy.condition is not RestartCondition.ANY
        and (own := held.get(member.service.id))
        and all(one.view.state in _ENDED for one in own)
        and (completed or any(one.view.exit_code for one in own))
    )


def replaced(started: Iterable[Member], found: Iterable[Held]) -> frozenset[str]:
    """The ids of the tasks that have ended of services that are started now."""
    services = frozenset(member.service.id for member in started)
    return frozenset(
        one.view.task_id
        for one in found
        if one.view.service_id in services and one.view.state in _ENDED
    )
