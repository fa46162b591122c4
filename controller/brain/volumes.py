"""Volumes while one decision places tasks: where they are, and the copies that it adds. PURE.

A task gets a node only together with the copies that its volumes have there: the decision that
places it writes both. docs/decisions/0027-volumes.md.
"""

from collections.abc import Container, Iterable, Iterator, Sequence

from msgspec.structs import replace

from controller.brain.mounts import ever_mounts, task_volumes, volumes_of_spec
from pyswarm_core.clock import Instant
from pyswarm_core.identity.users import STACK_LABEL
from pyswarm_core.ids import IdSource, NodeId
from pyswarm_core.kinds import VOLUME
from pyswarm_core.objects import Service, Task, Version
from pyswarm_core.state import State
from pyswarm_core.templates.context import is_template
from pyswarm_core.volumes.drivers import LOCAL
from pyswarm_core.volumes.mounts import Driver, Mount
from pyswarm_core.volumes.volume import (
    Volume,
    VolumeId,
    VolumePlacement,
    VolumeSpec,
    default_placement,
)


def volume_named(state: State, name: str) -> Volume | None:
    """The volume of that name; None if there is none, or it is being removed."""
    volume_id = state.ids_of_names(VOLUME).get(name)
    return None if volume_id is None else state.of(VOLUME)[volume_id]


def is_of_others(service: Service, volume: Volume) -> bool:
    """Whether the service is of a stack, and the volume of none or of another one."""
    stack = service.spec.labels.get(STACK_LABEL, "")
    return bool(stack) and volume.spec.labels.get(STACK_LABEL, "") != stack


def is_strange(service: Service, volume: Volume) -> bool:
    """Whether the service's tasks may not mount the volume, although a spec names it: others made
    it after the user of the service, who may be limited to stacks, was asked what it may mount.
    """
    return is_of_others(service, volume) and volume.id not in service.volumes_of_others


def admitted(state: State, service: Service) -> Service:
    """The service after a change of its user, who was allowed to mount what its spec names: with
    the volumes of others among that. Those that it had stay, as its tasks may return to a spec.
    """
    volumes = state.of(VOLUME)
    kept = [one for one in service.volumes_of_others if VolumeId(one) in volumes]
    if service.spec.labels.get(STACK_LABEL):
        for name in volumes_of_spec(state, service, service.spec):
            volume = volume_named(state, name)
            if volume is not None and is_of_others(service, volume):
                kept.append(volume.id)
    return replace(service, volumes_of_others=tuple(dict.fromkeys(kept)))


def may_be_unreadable(state: State, name: str) -> bool:
    """Whether a volume that cannot be read may have the name."""
    prefix = VOLUME.object_name(VolumeId(""))
    return volume_named(state, name) is None and any(
        one.startswith(prefix) for one in state.unreadable
    )


def leaves_volumes(service: Service) -> bool:
    """Whether its tasks may start without the data of volumes, on copies of other nodes."""
    return service.spec.task_template.placement.leaves_volumes


def may_leave(state: State, service: Service, name: str) -> bool:
    """Whether its tasks may start without the data of the volume of that name. Then the volume has
    several copies, for everybody: so not while another service relies on its data.
    """
    return leaves_volumes(service) and next(relying(state, service, name), None) is None


def relying(state: State, service: Service, name: str) -> Iterator[Service]:
    """The other services that mount the volume of that name and do not start without its data."""
    for service_id in state.copies.mounting(name):
        other = state.services.get(service_id)
        if other is None or other.id == service.id or other.removing or leaves_volumes(other):
            continue
        if ever_mounts(state, other, name):
            yield other


def is_home(state: State, service: Service, task: Task) -> bool:
    """Whether the task's node has the only copy of a volume that the next task of its slot mounts,
    too, and may not do without.
    """
    names = task_volumes(state, service, service.spec, task.slot, task.node_id)
    return any(
        volume is not None
        and volume.home == task.node_id
        and not may_leave(state, service, volume.spec.name)
        for name in names
        for volume in (volume_named(state, name),)
    )


def has_files(state: State, service: Service, task: Task) -> bool:
    """Whether the task has files that the next one of its slot will have."""
    names = task_volumes(state, service, service.spec, task.slot, task.node_id)
    volumes = (volume_named(state, name) for name in names)
    return is_home(state, service, task) or any(one and one.spec.is_shared for one in volumes)


def writes_alone(state: State, service: Service) -> bool:
    """Whether the service's tasks write to a volume with one copy, or to one that every node
    reaches: a slot's next task would write to the same files as the one before it. So it is with
    volumes that slots have for themselves.
    """
    return any(
        not mount.read_only and _has_one_copy(state, service, mount)
        for mount in service.spec.task_template.container_spec.mounts
    )


def _has_one_copy(state: State, service: Service, mount: Mount) -> bool:
    if is_template(mount.volume):
        return not (service.spec.mode.per_node or leaves_volumes(service))
    volume = volume_named(state, mount.volume)
    if volume is None or may_leave(state, service, mount.volume):
        return False
    return bool(volume.home) or volume.spec.is_shared


class VolumeBook:
    """The volumes as this decision leaves them."""

    def __init__(self, state: State, now: Instant, ids: IdSource) -> None:
        self._state = state
        self._now = now
        self._ids = ids
        self._changed: dict[str, Volume] = {}

    def named(self, name: str) -> Volume | None:
        """The volume of that name."""
        return self._changed.get(name) or volume_named(self._state, name)

    def homeless(self, service: Service, names: Iterable[str]) -> bool:
        """Whether one of these volumes has no copy yet and will have a single one."""
        return any(self._has_no_home(service, name) for name in names)

    def without_home(self, service: Service, names: Iterable[str]) -> tuple[str, ...]:
        """The volumes that have no copy yet and will have a single one."""
        return tuple(name for name in names if self._has_no_home(service, name))

    def homes_of(self, names: Iterable[str]) -> tuple[NodeId, ...]:
        """The only nodes on which a task that mounts these volumes may run; empty: it may run on
        any.
        """
        found = (self.named(name) for name in names)
        return tuple(sorted({one.home for one in found if one is not None and one.home}))

    def kept(self, service: Service, names: Iterable[str]) -> tuple[str, ...]:
        """The volumes without whose data the service's tasks do not start, although they start
        without that of others.
        """
        if not leaves_volumes(service):
            return ()
        return tuple(one for one in names if not may_leave(self._state, service, one))

    def restricted(self, service: Service, names: Iterable[str]) -> tuple[str, ...]:
        """Those of the volumes that have work, that a node has yet to delete, or that the service's
        tasks may not mount.
        """
        found = ((name, self.named(name)) for name in names)
        return tuple(
            name
            for name, one in found
            if one is not None and (one.work or one.leaving or is_strange(service, one))
        )

    def _has_no_home(self, service: Service, name: str) -> bool:
        volume = self.named(name)
        if volume is None:
            return first_placement(service, name) is VolumePlacement.PINNED
        if volume.copies or volume.spec.placement is not VolumePlacement.PINNED:
            return False
        return not may_leave(self._state, service, name)

    def take(self, service: Service, mounts: Iterable[Mount], nodes: Sequence[NodeId]) -> None:
        """Tasks with these mounts are placed on these nodes: their volumes have copies there."""
        for mount in mounts:
            if mount.volume and nodes:
                self._add_copies(service, mount, nodes)

    def _add_copies(self, service: Service, mount: Mount, nodes: Iterable[NodeId]) -> None:
        old = self.named(mount.volume)
        had = old.copies if old is not None else ()
        copies = tuple(dict.fromkeys((*had, *nodes)))
        if old is None:
            (volume_id,) = self._ids.draw(1)
            self._changed[mount.volume] = Volume(
                id=VolumeId(volume_id),
                spec=first_spec(service, mount),
                version=Version(index=1),
                created_at=self._now,
                updated_at=self._now,
                copies=copies,
            )
        elif copies != had:
            spec = old.spec
            if len(copies) > 1:  # a service that leaves its volumes took it to another node
                spec = replace(spec, placement=VolumePlacement.ANY)
            forgotten = tuple(one for one in old.forgotten if one not in copies)
            self._changed[mount.volume] = replace(
                old, copies=copies, spec=spec, forgotten=forgotten
            )

    def changed(self) -> tuple[Volume, ...]:
        """The volumes that this decision created, or gave copies."""
        return tuple(self._changed.values())


def first_spec(service: Service, mount: Mount) -> VolumeSpec:
    """The spec of a volume that a mount creates; it belongs to the stack of the service, whatever
    the labels of the mount say: a user of one stack puts no volume into another one.
    """
    options = mount.volume_options
    stack = service.spec.labels.get(STACK_LABEL)
    labels = {STACK_LABEL: stack} if stack else {}
    driver = _driver(mount)
    return VolumeSpec(
        name=mount.volume,
        driver=driver.name,
        driver_opts=driver.options,
        labels=(options.labels if options else {}) | labels,
        placement=first_placement(service, mount.volume),
    )


def first_placement(service: Service, name: str) -> VolumePlacement:
    """That of a volume which the service creates with this name."""
    template = service.spec.task_template
    if named := template.placement.volumes:
        return VolumePlacement(named)
    if service.spec.mode.per_node:
        return VolumePlacement.ANY
    mounts = (one for one in template.container_spec.mounts if one.volume == name)
    driver = _driver(next(mounts, None))
    return default_placement(driver.name, driver.options)


def _driver(mount: Mount | None) -> Driver:
    """The driver of a volume that the mount creates."""
    options = mount.volume_options if mount is not None else None
    driver = options.driver_config if options is not None else Driver()
    return driver if driver.name else replace(driver, name=LOCAL)


def removed(volume: Volume, nodes: Container[NodeId]) -> Volume | None:
    """The volume marked for removal, with every copy that an existing node (of `nodes`) may have;
    None if there are none: it is then removed at once.
    """
    work = volume.work
    had = (*volume.copies, *volume.leaving, *volume.forgotten, work.to if work else NodeId(""))
    copies = tuple(dict.fromkeys(one for one in had if one in nodes))
    if not copies:
        return None
    return replace(volume, removing=True, copies=copies, leaving=(), forgotten=(), work=None)


def left_behind(state: State, service: Service) -> Iterator[Volume]:
    """The anonymous volumes of a container that go with it."""
    for name in service.spec.task_template.volumes:
        volume = volume_named(state, name)
        if volume is not None and volume.is_anonymous:
            yield volume
