"""Volumes while one decision places tasks: where they are, and the copies that it adds. PURE.

A task gets a node only together with the copies that its volumes have there: the decision that
places it writes both. docs/decisions/0027-volumes.md.
"""

from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from pyswarm_core.clock import Instant
from pyswarm_core.identity.users import STACK_LABEL
from pyswarm_core.ids import IdSource, NodeId
from pyswarm_core.kinds import VOLUME
from pyswarm_core.objects import Service, Version
from pyswarm_core.specs import TaskSpec
from pyswarm_core.state import State
from pyswarm_core.volumes.mounts import Mount
from pyswarm_core.volumes.volume import LOCAL, Volume, VolumeId, VolumePlacement, VolumeSpec


def volume_named(state: State, name: str) -> Volume | None:
    """The volume of that name; None if there is none, or it is being removed."""
    volume_id = state.ids_of_names(VOLUME).get(name)
    return None if volume_id is None else state.of(VOLUME)[volume_id]


def may_be_unreadable(state: State, name: str) -> bool:
    """Whether a volume that cannot be read may have the name."""
    prefix = VOLUME.object_name(VolumeId(""))
    return volume_named(state, name) is None and any(
        one.startswith(prefix) for one in state.unreadable
    )


def is_home(state: State, service: Service, node_id: NodeId) -> bool:
    """Whether the node has the only copy of a volume that the service's tasks mount."""
    return any(
        volume is not None and volume.home == node_id
        for name in service.spec.task_template.volumes
        for volume in (volume_named(state, name),)
    )


def writes_alone(state: State, service: Service) -> bool:
    """Whether the service's tasks write to a volume with one copy: a slot's next task would write
    to the same files as the one before it.
    """
    return any(
        not mount.read_only and (volume := volume_named(state, mount.volume)) and volume.home
        for mount in service.spec.task_template.container_spec.mounts
        if mount.volume
    )


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

    def homeless(self, service: Service, template: TaskSpec) -> bool:
        """Whether a volume of the template has no copy yet and will have one alone."""
        return any(self._has_no_home(service, name) for name in template.volumes)

    def _has_no_home(self, service: Service, name: str) -> bool:
        volume = self.named(name)
        if volume is None:
            return not service.spec.mode.per_node
        return volume.spec.placement is VolumePlacement.PINNED and not volume.copies

    def take(self, service: Service, template: TaskSpec, nodes: Sequence[NodeId]) -> None:
        """Tasks of the template are placed on these nodes: its volumes have copies there."""
        for mount in template.container_spec.mounts:
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
            self._changed[mount.volume] = replace(old, copies=copies)

    def changed(self) -> tuple[Volume, ...]:
        """The volumes that this decision created, or gave copies."""
        return tuple(self._changed.values())


def first_spec(service: Service, mount: Mount) -> VolumeSpec:
    """The spec of a volume that a mount creates; it belongs to the stack of the service."""
    options = mount.volume_options
    stack = service.spec.labels.get(STACK_LABEL)
    labels = {STACK_LABEL: stack} if stack else {}
    is_global = service.spec.mode.per_node
    return VolumeSpec(
        name=mount.volume,
        driver=(options.driver_config.name if options else "") or LOCAL,
        driver_opts=options.driver_config.options if options else {},
        labels=labels | (options.labels if options else {}),
        placement=VolumePlacement.ANY if is_global else VolumePlacement.PINNED,
    )


def removed(volume: Volume, nodes: Iterable[NodeId]) -> Volume | None:
    """The volume marked for removal, with its copies on nodes that exist (`nodes`); None if there
    are none: then it is removed at once.
    """
    known = frozenset(nodes)
    copies = tuple(one for one in volume.copies if one in known)
    return replace(volume, removing=True, copies=copies) if copies else None


def left_behind(state: State, service: Service) -> Iterator[Volume]:
    """The anonymous volumes of a container that go with it."""
    for name in service.spec.task_template.volumes:
        volume = volume_named(state, name)
        if volume is not None and volume.is_anonymous:
            yield volume
