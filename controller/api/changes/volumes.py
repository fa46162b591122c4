"""Creating and removing volumes, and what services may name. PURE.

A volume that a mount names and that does not exist is created when a task gets a node
(controller/brain/volumes.py). Removal is explicit: the object stays, marked `removing`, until every
node with a copy has deleted it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from itertools import islice

from msgspec.structs import replace

from controller.api.changes.unreadable import NAME, remove_unreadable
from controller.api.queries.lookup import find
from controller.brain.mounts import volumes_of_spec
from controller.brain.storable import require_storable
from controller.brain.volumes import removed, volume_named
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import AlreadyExists, Conflict, Unavailable, quoted
from pyswarm_core.ids import ID_LENGTH, IdSource, NodeId
from pyswarm_core.indexes.columns import unpack_ids
from pyswarm_core.kinds import VOLUME
from pyswarm_core.limits import VALUE_BYTES_MAX, VOLUMES_MAX
from pyswarm_core.objects import Service, Version
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.state import State
from pyswarm_core.validation import require, volume_problems
from pyswarm_core.volumes.drivers import masked, secrets
from pyswarm_core.volumes.mounts import Mount, MountType, VolumeOptions
from pyswarm_core.volumes.volume import (
    ANONYMOUS,
    Volume,
    VolumeId,
    VolumeSpec,
    to_delete,
    without,
)

_NAMED = 5


def create_volume(
    state: State, spec: VolumeSpec, now: Instant, ids: IdSource
) -> tuple[Writes, Volume]:
    """A new volume, without a copy. As in Docker, a volume of the same name, driver and options is
    the answer, and nothing changes; without a name it gets one, as an anonymous volume.

    Raises InvalidArgument, AlreadyExists (another driver, options or placement), Unavailable (too
    many volumes).
    """
    (volume_id,) = ids.draw(1)
    if not spec.name:
        labels = {**spec.labels, ANONYMOUS: ""}
        spec = replace(spec, name=_generated(volume_id), labels=labels)
    require(volume_problems(spec))
    passwords = secrets(spec.driver_opts)
    spec = replace(spec, driver_opts=masked(spec.driver_opts))
    if (known := volume_named(state, spec.name)) is not None:
        _require_alike(known, spec, passwords)
        return Writes(), known
    if len(state.of(VOLUME)) >= VOLUMES_MAX:
        raise Unavailable(f"there are {VOLUMES_MAX} volumes, which is the limit")
    volume = Volume(
        id=VolumeId(volume_id),
        spec=spec,
        version=Version(index=1),
        created_at=now,
        updated_at=now,
        secret_opts=passwords,
    )
    require_storable(f"volume {quoted(spec.name)}", volume, VALUE_BYTES_MAX // 2)
    return Writes(objects=(volume,)), volume


def _generated(volume_id: str) -> str:
    """The 64 hexadecimal digits that Docker gives volumes without a name."""
    return sha256(volume_id.encode()).hexdigest()


def _require_alike(known: Volume, new: VolumeSpec, passwords: Mapping[str, str]) -> None:
    old = known.spec
    for what, before, now in (
        ("driver", old.driver, new.driver),
        ("options", old.driver_opts, new.driver_opts),
        ("placement", old.placement, new.placement),
        ("password", known.secret_opts, passwords),
    ):
        if before != now:
            other = "another password" if what == "password" else f"the {what} {before}"
            raise AlreadyExists(
                f"a volume named {old.name} already exists with {other}: choose a different volume"
                " name"
            )


def remove_volume(state: State, ref: str, now: Instant) -> tuple[Writes, Volume]:
    """Remove a volume: its name is free at once, its nodes delete their copies.

    Raises NotFound, and Conflict naming the services that mount it.
    """
    if (unreadable := remove_unreadable(state, VOLUME, ref)) is not None:
        writes, volume_id = unreadable
        return writes, Volume(id=volume_id, spec=VolumeSpec(name=NAME))
    volume = find(state, VOLUME, ref)
    if volume.removing:
        return Writes(), volume
    users = list(islice(users_of(state, volume.spec.name), _NAMED + 1))
    if users:
        more = " and others" if len(users) > _NAMED else ""
        raise Conflict(
            f"remove {volume.spec.name}: volume is in use - [{', '.join(users[:_NAMED])}{more}]"
        )
    version = Version(index=volume.version.index + 1)
    left = removed(replace(volume, version=version, updated_at=now), state.nodes)
    if left is None:
        return Writes(removed=(VOLUME.object_name(volume.id),)), volume
    return Writes(objects=(left,)), left


def users_of(state: State, name: str) -> Iterator[str]:
    """The services and containers that mount the volume. The cost follows these alone."""
    for service_id in state.copies.mounting(name):
        service = state.services[service_id]
        if name in _mounted(state, service):
            yield service.spec.name


def _mounted(state: State, service: Service) -> Iterator[str]:
    """The volumes of a service's spec, and of those of its tasks that have not ended."""
    versions = state.tasks_of_service(service.id).unfinished
    is_mixed = any(version < service.spec_version for version in versions)
    previous = [one.spec for one in service.previous_specs] if is_mixed else ()
    specs = () if service.removing and not versions else (service.spec, *previous)
    return (name for spec in specs for name in volumes_of_spec(state, service, spec))


def copies_of(state: State, node_id: NodeId, packed: bytes) -> list[VolumeId]:
    """The volumes of a node's report, 25 bytes of id each, whose copies it was to delete."""
    if not packed or len(packed) % ID_LENGTH or not packed.isascii():
        return []
    asked = frozenset(state.copies.to_remove(node_id))
    return [one for one in map(VolumeId, unpack_ids(packed)) if one in asked]


def copies_removed(
    node_id: NodeId, volumes: Iterable[VolumeId]
) -> Callable[[State, Instant, IdSource], tuple[Writes, None]]:
    """The change after a node has deleted its copies; a volume goes with its last one."""

    def change(state: State, now: Instant, ids: IdSource) -> tuple[Writes, None]:
        return without_copies(state, node_id, volumes), None

    return change


def without_copies(state: State, node_id: NodeId, volumes: Iterable[VolumeId]) -> Writes:
    """The writes that take the node out of the copies of volumes that are being removed, and out of
    the nodes that a volume leaves.
    """
    kept, gone, known = [], [], state.of(VOLUME)
    for volume_id in volumes:
        volume = known.get(volume_id)
        if volume is None or node_id not in to_delete(volume):
            continue
        leaving = without(volume.leaving, node_id)
        copies = without(volume.copies, node_id) if volume.removing else volume.copies
        if copies or leaving or not volume.removing:
            kept.append(replace(volume, copies=copies, leaving=leaving))
        else:
            gone.append(VOLUME.object_name(volume_id))
    return Writes(objects=tuple(kept), removed=tuple(gone))


def named_mounts(spec: ServiceSpec, ids: IdSource) -> ServiceSpec:
    """The spec of a container with a name for each anonymous volume, which stays with it."""
    template = spec.task_template
    container = template.container_spec
    if not spec.mode.is_container or all(map(_is_named, container.mounts)):
        return spec
    mounts = tuple(one if _is_named(one) else _named(one, ids) for one in container.mounts)
    container = replace(container, mounts=mounts)
    return replace(spec, task_template=replace(template, container_spec=container))


def _is_named(mount: Mount) -> bool:
    return bool(mount.source) or mount.type is not MountType.VOLUME


def _named(mount: Mount, ids: IdSource) -> Mount:
    (drawn,) = ids.draw(1)
    options = mount.volume_options or VolumeOptions()
    options = replace(options, labels={**options.labels, ANONYMOUS: ""})
    return replace(mount, source=_generated(drawn), volume_options=options)


def warnings(spec: ServiceSpec) -> list[str]:
    """What users are told of a spec with volumes."""
    if not spec.task_template.writes_volumes:
        return []
    return [
        f"{flag} {config.order}: slots with a writable volume are updated stop-first"
        for flag, config in (
            ("--update-order", spec.update_config),
            ("--rollback-order", spec.rollback_config),
        )
        if config.order != "stop-first"
    ]
