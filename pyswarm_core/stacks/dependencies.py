"""What a service waits for (`depends_on` of a Compose file). PURE values."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum

from pyswarm_core.ids import ServiceId
from pyswarm_core.model import Model


class DependencyCondition(StrEnum):
    """When a service that waits may start."""

    STARTED = "service_started"
    """All tasks of the other service run."""
    HEALTHY = "service_healthy"
    """All of them are healthy."""
    COMPLETED = "service_completed_successfully"
    """All of them have ended with exit code 0."""


class Dependency(Model, frozen=True, kw_only=True):
    """Another service, without which a service's tasks do not start."""

    service: str
    """Its name, as users gave it to the service: `shop_db`."""
    condition: DependencyCondition = DependencyCondition.STARTED
    restart: bool = False
    """Tasks are replaced after an update or restart of the other service by a user."""
    required: bool = True
    """False: if the other service does not exist or fails, the tasks start."""


class SeenDependency(Model, frozen=True, kw_only=True):
    """A dependency with `restart`, as it was when tasks last were replaced because of it."""

    name: str
    id: ServiceId
    template_version: int


class Gate(Model, frozen=True, kw_only=True):
    """What a service has seen of its dependencies."""

    released_version: int = 0
    """The newest spec version whose tasks do not wait, nor do those of earlier ones: the conditions
    held for its template. 0: not since the service was created or started.
    """
    seen: tuple[SeenDependency, ...] = ()


OPEN = Gate()


def dependencies_first(needed: Mapping[str, Sequence[str]]) -> list[str]:
    """The names, each after those of them that it needs; otherwise in their order. Names that need
    each other in a circle are in no order.
    """
    order: dict[str, None] = {}
    begun: dict[str, None] = {}
    for first in needed:
        waiting = [first]
        while waiting:
            name = waiting[-1]
            others = [] if name in begun else [one for one in needed[name] if one in needed]
            begun[name] = None
            if left := [one for one in others if one not in begun]:
                waiting += reversed(left)
            else:
                order.setdefault(waiting.pop(), None)
    return list(order)


def cycle(first: str, needed: Callable[[str], Iterable[str]]) -> list[str]:
    """The shortest way from a service along its dependencies back to itself, both ends included;
    empty if there is none. `needed`: the names of a service's dependencies. Costs the services that
    it depends on.
    """
    before: dict[str, str] = {}
    queue = deque([first])
    while queue:
        name = queue.popleft()
        for other in needed(name):
            if other == first:
                path = [first, name]
                while path[-1] != first:
                    path.append(before[path[-1]])
                return path[::-1]
            if other not in before:
                before[other] = name
                queue.append(other)
    return []
