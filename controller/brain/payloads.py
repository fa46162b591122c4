"""Which versions of secrets and configs are in use. PURE.

A version is in use if a service's spec names it, the spec of a task that has not ended, or the one
that a failed update would return to. docs/decisions/0032-secrets-and-configs.md.
"""

from collections.abc import Iterable, Iterator

from pyswarm_core.identity.users import STACK_LABEL
from pyswarm_core.kinds import CONFIG, SECRET, STACK, Kind, kind_of
from pyswarm_core.objects import Service
from pyswarm_core.payloads.payload import Payload, PayloadId
from pyswarm_core.payloads.references import ConfigReference, Reference, SecretReference
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.state import State

PAYLOAD_KINDS: tuple[Kind[Payload, PayloadId], ...] = (SECRET, CONFIG)  # type: ignore[assignment]


def kind_of_reference(reference: Reference) -> Kind[Payload, PayloadId]:
    """The kind of what the reference names."""
    return SECRET if isinstance(reference, SecretReference) else CONFIG  # type: ignore[return-value]


def references_of(spec: ServiceSpec, kind_name: str) -> tuple[Reference, ...]:
    """The references of a spec to secrets, or to configs."""
    container = spec.task_template.container_spec
    return container.secrets if kind_name == SECRET.name else container.configs


def used_specs(state: State, service: Service) -> Iterator[ServiceSpec]:
    """The specs of the service whose secrets and configs are in use."""
    tasks = state.tasks_of_service(service.id)
    versions = [one for one in tasks.unfinished if not service.is_current(one)]
    if not service.removing or tasks.unfinished:
        yield service.spec
    status = service.update_status
    if status is not None and status.state.is_unfinished and status.from_version:
        versions.append(status.from_version)
    for version in versions:
        if (spec := service.made_from(version)) is not None:
            yield spec


def users_of(state: State, kind_name: str, ids: Iterable[str]) -> Iterator[Service]:
    """The services that use one of these versions."""
    wanted = frozenset(ids)
    for service in state.services.values():
        if any(
            reference.id in wanted
            for spec in used_specs(state, service)
            for reference in references_of(spec, kind_name)
        ):
            yield service


def kept_ids(state: State, kind_name: str, service: Service) -> Iterator[str]:
    """The versions that the service uses, or that an earlier spec of it which is kept names."""
    specs = (*used_specs(state, service), *(one.spec for one in service.previous_specs))
    return (one.id for spec in specs for one in references_of(spec, kind_name))


def kept_by_stack(state: State, version: Payload) -> frozenset[int]:
    """The numbers of versions of the secret or config to which its stack may return."""
    kind, name = kind_of(version), version.spec.name
    stack_id = state.ids_of_names(STACK).get(version.spec.labels.get(STACK_LABEL, ""))
    stack = state.of(STACK).get(stack_id) if stack_id else None
    if stack is None:
        return frozenset()
    return frozenset(
        one.number
        for content in (stack.spec, *(one.spec for one in stack.previous_specs))
        for one in (content.secrets if kind is SECRET else content.configs)
        if one.spec.name == name
    )


def missing_in(state: State, spec: ServiceSpec) -> Reference | None:
    """The first reference of the spec whose version does not exist any more."""
    for reference in spec.task_template.container_spec.references:
        if reference.id not in state.of(kind_of_reference(reference)):
            return reference
    return None


def title_of(reference: Reference) -> str:
    """`secret db@3`."""
    kind = "config" if isinstance(reference, ConfigReference) else "secret"
    return f"{kind} {reference.source}@{reference.number}"
