"""The versions that specs name, and what agents may read of them. PURE."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from msgspec.structs import replace

from controller.brain.following import require_variable, with_references
from controller.brain.payloads import kind_of_reference
from pyswarm_core.errors import NotFound, PermissionDenied, invalid, quoted
from pyswarm_core.ids import NodeId, TaskId
from pyswarm_core.kinds import CONFIG, KINDS, SECRET
from pyswarm_core.objects import Service
from pyswarm_core.payloads.payload import Payload, PayloadId
from pyswarm_core.payloads.references import Reference
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.state import State
from pyswarm_core.states import occupies

R = TypeVar("R", bound=Reference)


def resolved(state: State, spec: ServiceSpec, old: ServiceSpec | None = None) -> ServiceSpec:
    """The spec with the exact version of each secret and config that it names: a reference with an
    id keeps it; one without gets that of its number, or the newest. Those of a container are
    pinned: it keeps what it was created with.

    Raises NotFound in Docker's words, InvalidArgument for an id that is not of that name, and for a
    secret that cannot be a variable.
    """
    container = spec.task_template.container_spec
    if not container.references:
        return spec
    secrets = tuple(_resolved(state, one) for one in container.secrets)
    configs = tuple(_resolved(state, one) for one in container.configs)
    for reference in secrets:
        require_variable(reference, state.of(SECRET)[PayloadId(reference.id)])
    if spec.mode.is_container:
        secrets = tuple(replace(one, pinned=True) for one in secrets)
        configs = tuple(replace(one, pinned=True) for one in configs)
    return with_references(spec, secrets, configs)


def _resolved(state: State, reference: R) -> R:
    kind = kind_of_reference(reference)
    objects, versions = state.of(kind), state.payloads[kind.name].of(reference.source)
    if reference.id:
        found = objects.get(PayloadId(reference.id))
        if found is None:
            raise NotFound(f"{kind.name} not found: {quoted(reference.source)[1:-1]}")
        if found.spec.name != reference.source:
            raise invalid(f"--{kind.name}", reference.source, "expected the name of its id", "name")
        return reference.at(found.id, found.number)
    if not versions:
        raise NotFound(f"{kind.name} not found: {quoted(reference.source)[1:-1]}")
    number = reference.number or max(versions)
    if number not in versions:
        kept = ", ".join(map(str, sorted(versions)))
        raise NotFound(
            f"{kind.name} {reference.source} has no version {number}: expected one of {kept}"
        )
    return reference.at(versions[number], number)


def fetched(state: State, node_id: NodeId, kind_name: str, ref: str, task_id: str) -> Payload:
    """The version for the agent of a node that runs a task which uses it.

    Raises NotFound, and PermissionDenied if no unfinished task of that id, on that node, uses it.
    """
    task = state.tasks.get(TaskId(task_id))
    service = state.services.get(task.service_id) if task is not None else None
    if (
        task is None
        or service is None
        or task.node_id != node_id
        or not occupies(task.state)
        or kind_name not in (SECRET.name, CONFIG.name)
    ):
        raise PermissionDenied("only a node that runs a task receives what this task uses")
    specs = _specs_of(service, task.spec_version)
    references = (one for spec in specs for one in spec.task_template.container_spec.references)
    if not _names(references, kind_name, ref):
        raise PermissionDenied(f"task {task.id} uses no {kind_name} of that id")
    found = state.of(KINDS[kind_name]).get(ref)
    if found is None:
        raise NotFound(f"{kind_name} {quoted(ref)} was removed")
    return found  # type: ignore[no-any-return]


def _specs_of(service: Service, version: int) -> Iterator[ServiceSpec]:
    """The spec that a task of the spec version is made from now, and those since it was made whose
    secrets and configs its container may be getting still.
    """
    if (spec := service.made_from(version)) is not None:
        yield spec
    for previous in service.previous_specs if service.is_current(version) else ():
        if service.is_current(previous.version):
            yield previous.spec
        if previous.version <= version:
            return


def _names(references: Iterable[Reference], kind_name: str, ref: str) -> bool:
    return any(one.id == ref and kind_of_reference(one).name == kind_name for one in references)
