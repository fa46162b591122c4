"""What a caller may push and remove. PURE.

The registry has the images of all stacks, and everybody who may read it reads all of them. A user
that is limited to stacks may not push or remove a name that a service of another stack uses, or
returns to by a rollback: its next update would run what was pushed, or find nothing. Nor may it
write to a repository that services of other stacks use and none of its own.
"""

from collections.abc import Collection, Iterator

from controller.brain.slices import Slices, batches
from controller.identity.caller import Caller
from controller.identity.policy import in_stacks, stacks_of, title
from controller.registry.actions import Action, require_named
from pyswarm_core.docker.reference import Reference, parse_reference
from pyswarm_core.errors import Conflict, InvalidArgument, PermissionDenied, quoted
from pyswarm_core.objects import Service
from pyswarm_core.registry.names import name_of, repository_of
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.state import State

SERVICES_AT_ONCE = 200
"""Services in one slice."""


def require_allowed(
    caller: Caller, action: Action, state: State, going: tuple[Reference, ...] = ()
) -> Slices[None]:
    """Raise PermissionDenied or Conflict unless the caller may do this now, and InvalidArgument for
    a name that no image has. `going`: what a removal of a digest takes along.
    """
    require_named(action)
    is_limited = bool(caller.stacks) and action.writes
    if not (action.deletes or action.pushes or is_limited):
        return
    names = action.deletes or action.pushes
    about = (action.reference, *going) if names else ()
    is_foreign = is_own = False
    for services in batches(tuple(state.services.values()), SERVICES_AT_ONCE):
        for service in services:
            has = is_limited and _uses_repository(service, action.repository)
            if in_stacks(caller, service.spec.labels):
                is_own = is_own or has
            else:
                is_foreign = is_foreign or has
                _require_foreign(caller, action, service, about)
            if action.deletes:
                _require_unused(action, service, about)
        yield
    if is_foreign and not is_own:
        raise PermissionDenied(
            f"{title(caller)} may not {_verb(action)} images of"
            f" {quoted(parse_reference(name_of(action.repository)).familiar.rpartition(':')[0])}:"
            " services of other stacks use that repository, and none of"
            f" {stacks_of(caller)} does"
        )


def _require_foreign(
    caller: Caller, action: Action, service: Service, about: Collection[Reference]
) -> None:
    """The names of a service of another stack stay as they are."""
    for spec in _specs(service):
        if any(_is_tag(one, name) for one in images_of(spec) for name in about):
            raise PermissionDenied(
                f"{title(caller)} may not {_verb(action)}"
                f" {quoted(action.reference.familiar)}: a service of another stack uses that name"
            )


def _verb(action: Action) -> str:
    return "remove" if action.deletes else "push"


def _uses_repository(service: Service, repository: str) -> bool:
    return any(
        repository_of(one) == repository for spec in _specs(service) for one in images_of(spec)
    )


def _require_unused(action: Action, service: Service, about: Collection[Reference]) -> None:
    """What a service, or an earlier spec of it, needs stays."""
    for spec in _specs(service):
        if any(_needs(one, going) for one in images_of(spec) for going in about):
            which = "uses it" if spec is service.spec else "may roll back to it"
            raise Conflict(
                f"{action.reference.familiar} cannot be removed: service"
                f" {quoted(service.spec.name)} {which}"
            )


def _specs(service: Service) -> tuple[ServiceSpec, ...]:
    return (service.spec, *(one.spec for one in service.previous_specs))


def _is_tag(used: Reference, name: Reference) -> bool:
    return bool(name.tag) and repository_of(used) == repository_of(name) and used.tag == name.tag


def _needs(used: Reference, going: Reference) -> bool:
    """Whether removing it takes what `used` names. A spec with a digest needs no tag."""
    if repository_of(used) != repository_of(going):
        return False
    if going.digest:
        return used.digest == going.digest
    return not used.digest and used.tag == going.tag


def images_of(spec: ServiceSpec) -> Iterator[Reference]:
    """The images that the spec names, but for templates."""
    container = spec.task_template.container_spec
    for text in (container.image, *(one.image for one in container.mounts if one.image)):
        try:
            yield parse_reference(text)
        except InvalidArgument:
            continue
