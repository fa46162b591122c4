"""Networks, volumes, secrets and configs of a stack: created, compared, changed. PURE."""

from collections.abc import Container, Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from controller.api.changes.networks import create_network
from controller.api.changes.volumes import create_volume
from controller.api.payloads.changes import New, create_payload, followers_of, made_payload
from controller.api.stacking.work import Work, about
from controller.brain.slices import Slices
from controller.brain.volumes import volume_named
from controller.identity.differences import differences
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, quoted
from pyswarm_core.identity.audit import MASK, FieldChange
from pyswarm_core.kinds import NETWORK, SERVICE, VOLUME, Kind
from pyswarm_core.objects import Network, Version
from pyswarm_core.payloads.payload import Payload
from pyswarm_core.specs import NetworkSpec
from pyswarm_core.stacks.changes import Action
from pyswarm_core.stacks.spec import StackPayload
from pyswarm_core.stacks.stack import StackMember
from pyswarm_core.validation import payload_problems, require
from pyswarm_core.volumes.drivers import masked, secrets
from pyswarm_core.volumes.volume import Volume, VolumeSpec


def shown(changes: Iterator[FieldChange]) -> list[str]:
    """`Field: before -> after`."""
    return [f"{one.field}: {one.before or '(none)'} -> {one.after or '(none)'}" for one in changes]


def put_network(work: Work, spec: NetworkSpec) -> None:
    """Create the network, or compare it. Raises Conflict if what differs cannot change."""
    with about(work, "network", spec.name):
        known_id = work.state.network_of_name.get(spec.name)
        if known_id is None:
            writes, made = create_network(work.state, spec, work.routes, work.now, work.ids)
            work.write(writes)
            work.tell(Action.CREATED, NETWORK, spec.name, made.id)
            return
        known = work.state.networks[known_id]
        work.require_own(NETWORK, known)
        fixed = replace(known.spec, labels=spec.labels, attachable=spec.attachable)
        if fixed != spec:
            raise _cannot_change("network", known.spec.name, shown(differences(fixed, spec)))
        _relabel(work, NETWORK, known, spec)


def put_volume(work: Work, spec: VolumeSpec, *, knows_passwords: bool) -> None:
    """Create the volume, or compare it. Raises Conflict if what differs cannot change."""
    with about(work, "volume", spec.name):
        known = volume_named(work.state, spec.name)
        if known is None:
            if not knows_passwords and any(MASK in one for one in spec.driver_opts.values()):
                raise Conflict(
                    "it was removed, and had a password, which versions of a stack do not keep:"
                    " apply the stack's file, which has it"
                )
            writes, made = create_volume(work.state, spec, work.now, work.ids)
            work.write(writes)
            work.tell(Action.CREATED, VOLUME, spec.name, made.id)
            return
        work.require_own(VOLUME, known)
        wanted = replace(spec, driver_opts=masked(spec.driver_opts))
        fixed = replace(known.spec, labels=spec.labels)
        if fixed != wanted:
            raise _cannot_change("volume", spec.name, shown(differences(fixed, wanted)))
        if knows_passwords and secrets(spec.driver_opts) != known.secret_opts:
            raise _cannot_change("volume", spec.name, ["another password"])
        _relabel(work, VOLUME, known, wanted)


def _relabel(work: Work, kind: Kind[Any, Any], known: Network | Volume, spec: Any) -> None:
    if known.spec == spec:
        work.tell(Action.UNCHANGED, kind, spec.name, known.id)
        return
    version = Version(index=known.version.index + 1)
    changed = replace(known, spec=spec, version=version, updated_at=work.now)
    work.write(Writes(objects=(changed,)))
    difference = shown(differences(known.spec, spec))
    work.tell(Action.UPDATED, kind, spec.name, known.id, difference=difference)


def _cannot_change(kind: str, name: str, difference: Sequence[str]) -> Conflict:
    listed = ", ".join(difference)
    hint = "give it another name" if kind == "network" else "its files would be lost"
    return Conflict(
        f"{kind} {quoted(name)} exists with other settings, which cannot change ({listed}):"
        f" {hint}, or remove it first: pyswarm {kind} rm {name}"
    )


def put_payload(
    work: Work, kind: Kind[Any, Any], given: StackPayload, without: Container[str]
) -> Slices[Payload]:
    """The newest version of a secret or config: another one if the data differs. Services that
    follow it are updated, but for those `without`, which the stack updates itself.
    """
    spec, state = given.spec, work.state
    with about(work, kind.name, spec.name):
        newest = state.payloads[kind.name].newest(spec.name)
        if newest is None:
            new = New(spec, given.data)
            writes, made = create_payload(state, kind, new, work.now, work.ids)
            work.write(writes)
            work.tell(Action.CREATED, kind, spec.name, made.id)
            return made
        known: Payload = state.of(kind)[newest]
        work.require_own(kind, known)
        require(payload_problems(kind.name, spec, len(given.data)))
        if (known.data, known.spec.templating) == (given.data, spec.templating):
            _relabel(work, kind, known, spec)  # type: ignore[arg-type]
            found: Payload = state.of(kind)[newest]
            return found
        made = made_payload(
            state, kind, New(spec, given.data, known.number + 1), work.now, work.ids
        )
        users = dict.fromkeys(work.users.get((kind.name, spec.name), ()))  # some have it twice
        followers = yield from followers_of(state, made, work.now, without, users)
    work.write(Writes(objects=(made, *followers)))
    work.stale += _older(work, kind, made)
    reason = f"version {known.number} -> {made.number}"
    work.tell(Action.UPDATED, kind, spec.name, made.id, reason=reason)
    for service in followers:
        reason = f"it follows {kind.name} {spec.name}"
        work.tell(Action.REPLACED, SERVICE, service.spec.name, service.id, reason=reason)
    return made


def _older(work: Work, kind: Kind[Any, Any], made: Payload) -> Iterator[StackMember]:
    """The versions beyond those that are kept in any case, oldest first."""
    versions = work.state.payloads[kind.name].of(made.spec.name)
    older = sorted(versions, reverse=True)[1 + made.spec.keep_versions :]
    for number in reversed(older):
        name = f"{made.spec.name}@{number}"
        yield StackMember(kind=kind.name, id=versions[number], name=name)
