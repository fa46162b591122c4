"""Creating and removing volumes, and what services may name. PURE.

A volume that a mount names and that does not exist is created when a task gets a node
(controller/brain/volumes.py). Removal is explicit: the object stays, marked `removing`, until every
node with a copy has deleted it.
"""

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from itertools import islice

from msgspec.structs import replace

from controller.api.changes.unreadable import NAME, remove_unreadable
from controller.api.queries.lookup import find
from controller.brain.storable import require_storable
from controller.brain.volumes import removed, volume_named
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import AlreadyExists, Conflict, Unavailable, quoted
from pyswarm_core.ids import ID_LENGTH, IdSource, NodeId
from pyswarm_core.indexes.columns import unpack_ids
from pyswarm_core.kinds import VOLUME
from pyswarm_core.limits import VALUE_BYTES_MAX, VOLUMES_MAX
from pyswarm_core.objects import Version
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.state import State
from pyswarm_core.validation import require, volume_problems
from pyswarm_core.volumes.mounts import Mount, MountType, VolumeOptions
from pyswarm_core.volumes.volume import ANONYMOUS, Volume, VolumeId, VolumeSpec

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
    if (known := volume_named(state, spec.name)) is not None:
        _require_alike(known.spec, spec)
        return Writes(), known
    if len(state.of(VOLUME)) >= VOLUMES_MAX:
        raise Unavailable(f"there are {VOLUMES_MAX} volumes, which is the limit")
    volume = Volume(
        id=VolumeId(volume_id),
        spec=spec,
        version=Version(index=1),
        created_at=now,
        updated_at=now,
    )
    require_storable(f"volume {quoted(spec.name)}", volume, VALUE_BYTES_MAX // 2)
    return Writes(objects=(volume,)), volume


def _generated(volume_id: str) -> str:
    """The 64 hexadecimal digits that Docker gives volumes without a name."""
    return sha256(volume_id.encode()).hexdigest()


def _require_alike(old: VolumeSpec, new: VolumeSpec) -> None:
    for what, before, now in (
        ("driver", old.driver, new.driver),
        ("options", old.driver_opts, new.driver_opts),
        ("placement", old.placement, new.placement),
    ):
        if before != now:
            raise AlreadyExists(
                f"a volume named {old.name} already exists with the {what} {before}: choose a"
                " different volume name"
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
    """The services and containers that mount the volume."""
    for service_name, volumes in _uses(state):
        if name in volumes:
            yield service_name


def used(state: State) -> frozenset[str]:
    """The names of the volumes that are mounted by a service or container."""
    return frozenset(volume for _, volumes in _uses(state) for volume in volumes)


def _uses(state: State) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each service with volumes in its spec, or in that of a task that has not ended."""
    for service in state.services.values():
        versions = state.tasks_of_service(service.id).unfinished
        is_mixed = any(version < service.spec_version for version in versions)
        previous = [one.spec for one in service.previous_specs] if is_mixed else ()
        specs = () if service.removing and not versions else (service.spec, *previous)
        names = [volume for spec in specs for volume in spec.task_template.volumes]
        if names:
            yield service.spec.name, tuple(names)


def copies_of(state: State, node_id: NodeId, packed: bytes) -> list[VolumeId]:
    """The volumes of a node's report, 25 bytes of id each, whose copies it was to delete."""
    if not packed or len(packed) % ID_LENGTH or not packed.isascii():
        return []
    held = state.copies.of_node(node_id)
    found = (held.get(VolumeId(one)) for one in unpack_ids(packed))
    return [one.id for one in found if one is not None and one.removing]


def copies_removed(
    node_id: NodeId, volumes: Iterable[VolumeId]
) -> Callable[[State, Instant, IdSource], tuple[Writes, None]]:
    """The change after a node has deleted its copies; a volume goes with its last one."""

    def change(state: State, now: Instant, ids: IdSource) -> tuple[Writes, None]:
        return without_copies(state, node_id, volumes), None

    return change


def without_copies(state: State, node_id: NodeId, volumes: Iterable[VolumeId]) -> Writes:
    """The writes that take the node out of the copies of volumes that are being removed."""
    kept, gone = [], []
    for volume_id in volumes:
        volume = state.copies.of_node(node_id).get(volume_id)
        if volume is None or not volume.removing:
            continue
        copies = tuple(one for one in volume.copies if one != node_id)
        if copies:
            kept.append(replace(volume, copies=copies))
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
