"""Services of a stack: created, compared, updated. PURE."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from msgspec.structs import replace

from controller.api.changes.attachments import attached
from controller.api.changes.services import Update, create_service, remove_service, update_service
from controller.api.payloads.references import resolved
from controller.api.stacking.meaning import (
    kept,
    meaning,
    numbered,
    replicas_of,
    with_force,
    with_old_image,
)
from controller.api.stacking.parts import shown
from controller.api.stacking.work import Work, about
from controller.brain.payloads import title_of
from controller.brain.revisions import made_from
from controller.identity.differences import differences
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import Taken, quoted
from pyswarm_core.identity.users import STACK_LABEL
from pyswarm_core.ids import NetworkId, ServiceId
from pyswarm_core.kinds import SERVICE
from pyswarm_core.objects import Service
from pyswarm_core.payloads.references import Reference
from pyswarm_core.specs import RegistryLogin, ReplicatedMode, ServiceSpec
from pyswarm_core.stacks.changes import Action
from pyswarm_core.stacks.labels import CONTAINER_NAME
from pyswarm_core.state import State
from pyswarm_core.validation import require, service_problems


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A service as the stack is to have it."""

    spec: ServiceSpec
    before: ServiceSpec | None = None
    """As the present version of the stack has it; None: it has not."""
    login: RegistryLogin | None = None
    resets_scale: bool = False
    recreates: bool = False


def free_ports(work: Work, specs: Iterable[ServiceSpec]) -> None:
    """Let services publish ports that others of the same change give up, whatever their order."""
    for spec in specs:
        known = work.state.services.get(work.state.service_of_name.get(spec.name, ServiceId("")))
        if known is not None and known.spec.labels.get(STACK_LABEL) == work.name:
            wanted = {(one.protocol, one.published_port) for one in spec.endpoint_spec.ports}
            work.state.free_ports(known, wanted)


def put_service(work: Work, wanted: Wanted) -> ServiceSpec:
    """Create or update the service; the spec for the stack's record."""
    spec = wanted.spec
    if wanted.login is None:
        wanted = replace(wanted, login=_pending_login(work, spec.name))
    else:
        work.pend(spec.name, login=wanted.login)
    with about(work, "service", spec.name):
        _require_container_name(work, spec)
        known_id = work.state.service_of_name.get(spec.name)
        if known_id is None:
            writes, made = create_service(
                work.state, spec, work.routes, work.now, work.ids, login=wanted.login
            )
            work.write(writes)
            _note_container_name(work, made)
            _tell(work, Action.CREATED, made)
            return numbered(spec, made.spec)
        known = work.state.services[known_id]
        work.require_own(SERVICE, known)
        require(service_problems(spec))
        new, by_hand = _scaled(work, wanted, known)
        new = _resolved(work.state, with_old_image(new, known.spec), known.spec)
        number = _force_update(work, wanted, known)
        if number != known.spec.task_template.force_update:
            new, wanted = with_force(new, number), replace(wanted, recreates=True)
        _update(work, known, new, wanted, by_hand)
        _note_container_name(work, work.state.services[known_id])
    return numbered(_recorded(spec, new), new)


def _require_container_name(work: Work, spec: ServiceSpec) -> None:
    """Raise Taken if the service's `container_name` is that of another service or container."""
    if not (name := spec.labels.get(CONTAINER_NAME, "")):
        return
    state = work.state
    known = (*work.container_names.get(name, ()), state.service_of_name.get(name, ServiceId("")))
    for other in filter(None, map(state.services.get, known)):
        given = other.spec.labels.get(CONTAINER_NAME, "")
        has_name = given == name or (other.spec.name == name and other.spec.mode.is_container)
        if has_name and not other.removing and other.spec.name != spec.name:
            kind = "container" if other.spec.mode.is_container else "service"
            stack = other.spec.labels.get(STACK_LABEL, "")
            whose = f" of stack {quoted(stack)}" if stack else ""
            text = f"container_name {quoted(name)} is already that of"
            remedy = "give it another name"
            own = f"{text} {kind} {quoted(other.spec.name)}{whose}: {remedy}"
            raise Taken(own, other.id, f"{text} a {kind} outside your stacks: {remedy}")


def _note_container_name(work: Work, service: Service) -> None:
    if name := service.spec.labels.get(CONTAINER_NAME, ""):
        work.container_names.setdefault(name, []).append(service.id)


def _recorded(spec: ServiceSpec, new: ServiceSpec) -> ServiceSpec:
    """The spec as it was requested, with the image that it got."""
    container = replace(
        spec.task_template.container_spec, image=new.task_template.container_spec.image
    )
    return replace(spec, task_template=replace(spec.task_template, container_spec=container))


def _pending_login(work: Work, name: str) -> RegistryLogin | None:
    """The login that a change which is not all stored gives to the service."""
    pending = work.pending.get(name)
    return None if pending is None else work.logins.get(pending.registry)


def _force_update(work: Work, wanted: Wanted, known: Service) -> int:
    """The number of forced updates that the service gets."""
    number, pending = known.spec.task_template.force_update, work.pending.get(known.spec.name)
    if wanted.recreates:
        work.pend(known.spec.name, force_update=number + 1)
        return number + 1
    return max(number, pending.force_update) if pending is not None else number


def _scaled(work: Work, wanted: Wanted, known: Service) -> tuple[ServiceSpec, str]:
    """The spec with the number of replicas that users have set since its file was applied, and a
    word about it. Another number in the file ends that.
    """
    spec, mode, pending = wanted.spec, known.spec.mode, work.pending.get(known.spec.name)
    now, before, has = replicas_of(spec), replicas_of(wanted.before), replicas_of(known.spec)
    is_by_hand = before is not None and now == before and has not in (None, now)
    if not is_by_hand or not isinstance(mode, ReplicatedMode):
        return spec, ""
    if wanted.resets_scale:
        work.pend(spec.name, by_hand=mode.replicas)
    elif pending is None or not pending.resets_scale or pending.by_hand != mode.replicas:
        return replace(spec, mode=mode), f"{has} by hand, the file says {now}; --reset-scale"
    return spec, ""


def _resolved(state: State, spec: ServiceSpec, old: ServiceSpec) -> ServiceSpec:
    """The spec as it would be stored, in the order of the old one if it means the same."""
    new = kept(resolved(state, attached(state, spec, state.ingress_network, old)), old)
    return old if meaning(new) == meaning(old) else new


def _update(work: Work, known: Service, new: ServiceSpec, wanted: Wanted, by_hand: str) -> None:
    has_new_login = wanted.login is not None and wanted.login != known.registry_login
    if new is known.spec and not has_new_login:
        action = Action.KEPT if by_hand else Action.UNCHANGED
        _tell(work, action, known, by_hand)
        return
    update = Update(known.id, known.version, new, wanted.login)
    writes, service = update_service(work.state, update, work.routes, work.now, work.ids)
    work.write(writes)
    replaces = made_from(known.spec) != made_from(service.spec)
    lines = differing(work.state, known.spec, service.spec)
    reasons = [", ".join(dict.fromkeys(one.partition(":")[0] for one in lines)), by_hand]
    if wanted.recreates:
        reasons.insert(0, "requested")
    action = Action.REPLACED if replaces else Action.UPDATED
    _tell(work, action, service, "; ".join(filter(None, reasons)), lines)


def _tell(
    work: Work, action: Action, service: Service, reason: str = "", lines: Sequence[str] = ()
) -> None:
    name = service.spec.name
    work.tell(action, SERVICE, name, service.id, reason=reason, difference=lines)
    work.changes[-1] = replace(
        work.changes[-1], spec_version=service.spec_version, paused=service.is_paused
    )


def drop_service(work: Work, service: Service, reason: str) -> None:
    """Begin the removal of a service."""
    writes, _ = remove_service(work.state, service.id, work.now)
    work.write(writes)
    work.tell(Action.REMOVED, SERVICE, service.spec.name, service.id, reason=reason)


def login_for(logins: Sequence[RegistryLogin], spec: ServiceSpec) -> RegistryLogin | None:
    """The login for the registry of the service's image."""
    if not logins:
        return None
    registry = parse_reference(spec.task_template.container_spec.image).registry
    return next((one for one in logins if one.registry == registry), None)


def differing(state: State, old: ServiceSpec, new: ServiceSpec) -> list[str]:
    """What differs, with names in place of ids and secrets masked."""
    before, after = (_readable(state, one) for one in (meaning(old), meaning(new)))
    return [*shown(differences(before, after)), *_versions(old, new)]


def _readable(state: State, spec: ServiceSpec) -> ServiceSpec:
    template = spec.task_template
    joined = []
    for one in template.networks:
        network = state.networks.get(NetworkId(one.target))
        if one.target != state.ingress_network:
            joined.append(replace(one, target=network.spec.name) if network else one)
    container = replace(template.container_spec, secrets=(), configs=())
    template = replace(template, container_spec=container, networks=tuple(joined))
    return replace(spec, task_template=template)


def _versions(old: ServiceSpec, new: ServiceSpec) -> Iterator[str]:
    """`Secrets: db@1 -> db@2`."""
    before, after = (_titles(one) for one in (old, new))
    for place in {**before, **after}:
        was, now = before.get(place), after.get(place)
        if was != now:
            kind, _, title = (now or was or "").partition(" ")
            had = (was or "(none)").removeprefix(f"{kind} ")
            yield f"{kind.capitalize()}s: {had} -> {title if now else '(none)'}"


def _titles(spec: ServiceSpec) -> dict[Reference, str]:
    """What is at each place, whatever its version."""
    references = spec.task_template.container_spec.references
    return {replace(one.at("", 0), made_with="", reload=""): title_of(one) for one in references}
