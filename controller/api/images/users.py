"""Which services need which images. PURE.

A service needs the images of its spec and of the version that `rollback` returns to, which is also
the one that an update replaces. A container needs its image as long as it exists, because `start`
runs it again. Agents know which images their tasks have.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from controller.brain.slices import Slices, batches
from pyswarm_core.docker.reference import Reference, parse_reference
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.objects import Service
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.state import State

SERVICES_AT_ONCE = 64
_ROLLBACK = "rollback"


class User(NamedTuple):
    """A service or container, and the reference that it has for the image."""

    name: str
    is_container: bool
    why: str
    """Empty: it is in its spec."""
    reference: Reference

    @property
    def title(self) -> str:
        """`web`, `web (rollback)`."""
        return f"{self.name} ({self.why})" if self.why else self.name

    @property
    def sentence(self) -> str:
        """`service web`, `service web, which a rollback returns to it`."""
        kind = "container" if self.is_container else "service"
        more = ", whose rollback returns to it" if self.why == _ROLLBACK else ""
        return f"{kind} {self.name}{more}"


Users = Mapping[str, tuple[User, ...]]
"""By canonical reference: `docker.io/library/web:1`, `…@sha256:…`."""


Shows = Callable[[Service], bool]
"""Whether a caller is shown the service."""


def everything(service: Service) -> bool:
    """Of a caller that is not limited to stacks."""
    return True


def image_users(state: State, shows: Shows = everything) -> Slices[Users]:
    """Who of the services that are shown needs which images."""
    found: dict[str, tuple[User, ...]] = {}
    for part in batches(list(state.services), SERVICES_AT_ONCE):
        for service_id in part:
            service = state.services.get(service_id)
            for user in _of_service(service) if service and shows(service) else ():
                key = user.reference.canonical
                found[key] = (*found.get(key, ()), user)
        yield
    return found


def _of_service(service: Service) -> Iterator[User]:
    seen = set()
    for why, spec in _specs(service):
        for reference in _references(spec):
            if reference.canonical not in seen:
                seen.add(reference.canonical)
                is_container = service.spec.mode.is_container
                yield User(service.spec.name, is_container, why, reference)


def _specs(service: Service) -> Iterator[tuple[str, ServiceSpec]]:
    yield "", service.spec
    if service.previous_specs and not service.removing:
        yield _ROLLBACK, service.previous_specs[0].spec


def _references(spec: ServiceSpec) -> Iterator[Reference]:
    container = spec.task_template.container_spec
    for text in (container.image, *(one.image for one in container.mounts if one.image)):
        if (reference := _parsed(text)) is not None:
            yield reference


@lru_cache(4096)
def _parsed(text: str) -> Reference | None:
    """None for a template, which each task expands."""
    try:
        return parse_reference(text)
    except InvalidArgument:
        return None
