"""Services that follow the newest version of a secret or config. PURE.

A new version and the specs of all its followers are decided together. Many followers take several
transactions, and a leader may die between two. What it has left is derived: a service that has not
changed since the version was made, and none of whose kept specs names it. One that was rolled back
has such a spec.
"""

from collections.abc import Iterable
from typing import TypeVar

from msgspec.structs import replace

from controller.brain.payloads import kind_of_reference, references_of
from controller.brain.revisions import revised
from pyswarm_core.clock import Instant
from pyswarm_core.errors import Conflict, InvalidArgument, quoted
from pyswarm_core.kinds import SECRET, kind_of
from pyswarm_core.objects import Service, Version
from pyswarm_core.payloads.payload import Payload
from pyswarm_core.payloads.references import ConfigReference, Reference, SecretReference
from pyswarm_core.payloads.variables import variable
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.state import State

R = TypeVar("R", bound=Reference)


def follows(spec: ServiceSpec, version: Payload) -> bool:
    """Whether the spec gets each new version of this secret or config."""
    return any(_gets(one, version) for one in references_of(spec, kind_of(version).name))


def _gets(reference: Reference, version: Payload) -> bool:
    return reference.source == version.spec.name and not reference.pinned


def followed(spec: ServiceSpec, made: Payload) -> ServiceSpec:
    """The spec with the version in each reference that follows the newest; the same object if there
    is none.

    Raises InvalidArgument: the data can be no variable, or no running container can get it.
    """
    if not follows(spec, made):
        return spec
    container = spec.task_template.container_spec
    if kind_of(made) is SECRET:
        return with_references(spec, _moved(spec, container.secrets, made), container.configs)
    return with_references(spec, container.secrets, _moved(spec, container.configs, made))


def with_references(
    spec: ServiceSpec,
    secrets: tuple[SecretReference, ...],
    configs: tuple[ConfigReference, ...],
) -> ServiceSpec:
    """The spec with these secrets and configs."""
    template = spec.task_template
    container = replace(template.container_spec, secrets=secrets, configs=configs)
    return replace(spec, task_template=replace(template, container_spec=container))


def following(state: State, service: Service, made: Payload, now: Instant) -> Service | None:
    """The service with the version; None if it does not follow it or has it.

    Raises as `followed`, and Conflict (it has tasks of too many specs).
    """
    if service.removing or (spec := followed(service.spec, made)) == service.spec:
        return None
    since = service.updated_at if service.previous_specs else service.created_at
    version = Version(index=service.version.index + 1)
    changed = replace(service, version=version, updated_at=now, updated_by=made.updated_by)
    return revised(state, changed, spec, since)


def brought_forward(state: State, service: Service, now: Instant) -> tuple[Service, Payload] | None:
    """The service with a version to which a leader that died has not brought it, and this version;
    None if there is none, or it cannot have it now.
    """
    for reference in service.spec.task_template.container_spec.references:
        made = None if reference.pinned else _left(state, service, reference)
        if made is None:
            continue
        try:
            changed = following(state, service, made, now)
        except (Conflict, InvalidArgument):
            continue
        if changed is not None:
            return changed, made
    return None


def _left(state: State, service: Service, reference: Reference) -> Payload | None:
    """The newest version of what the reference names, if a former leader has not brought it to the
    service.
    """
    kind = kind_of_reference(reference)
    newest = state.payloads[kind.name].newest(reference.source)
    if newest is None or newest == reference.id:
        return None
    made = state.of(kind)[newest]
    if max(service.updated_at, service.created_at) >= made.created_at:
        return None
    specs = (one.spec for one in service.previous_specs)
    if any(one.id == newest for spec in specs for one in references_of(spec, kind.name)):
        return None
    return made


def require_variable(reference: Reference, version: Payload) -> None:
    """Raise InvalidArgument for a version that cannot be the value of an environment variable. The
    agent checks what a template expands to.
    """
    if reference.variable:
        variable(reference.variable, reference.source, version.data)


def _moved(spec: ServiceSpec, references: Iterable[R], made: Payload) -> tuple[R, ...]:
    return tuple(_at(spec, one, made) if _gets(one, made) else one for one in references)


def _at(spec: ServiceSpec, reference: R, made: Payload) -> R:
    """The reference, set to the new version."""
    require_variable(reference, made)
    if not made.reload:
        return reference.replaced_by(made.id, made.number)
    moved = reference.reloaded(made.id, made.number, made.reload)
    if not moved.is_swappable:
        where = f"in variable {moved.variable}" if moved.variable else f"at {moved.path}"
        raise InvalidArgument(
            f"--reload: service {quoted(spec.name)} has {kind_of(made).name} {moved.source}"
            f" {where}, which does not change in a running container: expected a file below"
            " /run/secrets; without --reload its tasks are replaced"
        )
    return moved
