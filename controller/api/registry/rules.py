"""What a caller may push and remove. PURE.

The registry has the images of all stacks, and everybody who may read it reads all of them. A user
that is limited to stacks may not push or remove a name that a service of another stack uses, or
that this service or its stack returns to by a rollback: its next update would run what was pushed,
or find nothing. Nor may it write to a repository that services of other stacks use and none of its
own.
"""

from collections.abc import Collection, Iterable, Iterator

from controller.brain.slices import Slices, batches
from controller.identity.caller import Caller
from controller.identity.policy import in_stacks, stacks_of, title
from controller.registry.actions import Action, require_named
from pyswarm_core.docker.reference import Reference, parse_reference
from pyswarm_core.errors import Conflict, InvalidArgument, PermissionDenied, quoted
from pyswarm_core.identity.users import STACK_LABEL
from pyswarm_core.kinds import STACK
from pyswarm_core.objects import Service
from pyswarm_core.registry.names import name_of, repository_of
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.stacks.stack import Stack
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
            has = is_limited and any(_names(one, action.repository) for one in _specs(service))
            if in_stacks(caller, service.spec.labels):
                is_own = is_own or has
            else:
                is_foreign = is_foreign or has
                _require_foreign(caller, action, _specs(service), about)
            if action.deletes:
                _require_unused(action, service, about)
        yield
    is_foreign |= yield from _of_versions(caller, action, state, about)
    if is_foreign and not is_own:
        raise PermissionDenied(
            f"{title(caller)} may not {_verb(action)} images of"
            f" {quoted(parse_reference(name_of(action.repository)).familiar.rpartition(':')[0])}:"
            " services of other stacks use that repository, and none of"
            f" {stacks_of(caller)} does"
        )


def _of_versions(
    caller: Caller, action: Action, state: State, about: Collection[Reference]
) -> Slices[bool]:
    """The same for versions of stacks; whether those of other stacks use the repository."""
    is_foreign = False
    for stack in tuple(state.of(STACK).values()):
        is_theirs = in_stacks(caller, {STACK_LABEL: stack.spec.name})
        for specs in _versions(stack):
            if not is_theirs:
                is_foreign = is_foreign or any(_names(one, action.repository) for one in specs)
                _require_foreign(caller, action, specs, about)
            if action.deletes:
                _require_not_kept(action, stack, specs, about)
            yield
    return is_foreign


def _require_foreign(
    caller: Caller, action: Action, specs: Iterable[ServiceSpec], about: Collection[Reference]
) -> None:
    """The names in specs of services of another stack stay as they are."""
    for spec in specs:
        if any(_is_tag(one, name) for one in images_of(spec) for name in about):
            raise PermissionDenied(
                f"{title(caller)} may not {_verb(action)}"
                f" {quoted(action.reference.familiar)}: a service of another stack uses that name"
            )


def _verb(action: Action) -> str:
    return "remove" if action.deletes else "push"


def _names(spec: ServiceSpec, repository: str) -> bool:
    return any(repository_of(one) == repository for one in images_of(spec))


def _spec_needs(spec: ServiceSpec, going: Reference) -> bool:
    return any(_needs(one, going) for one in images_of(spec))


def _require_unused(action: Action, service: Service, about: Collection[Reference]) -> None:
    """What a service, or an earlier spec of it, needs stays."""
    for spec in _specs(service):
        if any(_spec_needs(spec, going) for going in about):
            which = "uses it" if spec is service.spec else "may roll back to it"
            raise Conflict(
                f"{action.reference.familiar} cannot be removed: service"
                f" {quoted(service.spec.name)} {which}"
            )


def _require_not_kept(
    action: Action, stack: Stack, specs: Iterable[ServiceSpec], about: Collection[Reference]
) -> None:
    """What a version of a stack needs stays."""
    if any(_spec_needs(spec, going) for spec in specs for going in about):
        raise Conflict(
            f"{action.reference.familiar} cannot be removed: stack {quoted(stack.spec.name)} may"
            " roll back to it"
        )


def _versions(stack: Stack) -> Iterator[tuple[ServiceSpec, ...]]:
    """The services of each version that the stack keeps."""
    yield stack.spec.services
    yield from (one.spec.services for one in stack.previous_specs)


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
