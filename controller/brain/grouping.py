"""Groups of tasks that may run on the same nodes because of their volumes. PURE.

Tasks of one template mount the same volumes, unless their names are templates: then each slot may
have its own, and the copies of these may be on different nodes.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from controller.brain.mounts import is_per_task, volume_mounts
from controller.brain.volumes import VolumeBook, leaves_volumes
from pyswarm_core.ids import NodeId
from pyswarm_core.objects import Service
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.state import State
from pyswarm_core.volumes.mounts import Mount, volumes_of

Place = tuple[int, NodeId]
"""A slot, and the node to which it is bound."""
_NONE: Mapping[int, tuple[Mount, ...]] = {}


class GroupVolumes(Struct, frozen=True):
    """What the tasks of a group mount."""

    mounts: tuple[Mount, ...] = ()
    """Of volumes: those of every task of the group, unless `own` has its slot."""
    own: Mapping[int, tuple[Mount, ...]] = _NONE
    shared: tuple[str, ...] = ()
    """The names of volumes that several tasks mount."""
    service: Service | None = None
    left: Service | None = None
    """Their service, if tasks may start on another node than that of a volume, which cannot take
    them.
    """

    @property
    def per_task(self) -> bool:
        """Whether slots may have volumes of their own."""
        return bool(self.own)

    def of_slot(self, slot: int) -> tuple[Mount, ...]:
        """The mounts of the slot's task."""
        return self.own.get(slot, self.mounts)

    def names(self, slot: int) -> tuple[str, ...]:
        """The names of the volumes of the slot's task."""
        return volumes_of(self.of_slot(slot))


def grouped(
    state: State, service: Service, spec: ServiceSpec, places: Sequence[Place], book: VolumeBook
) -> Iterator[tuple[GroupVolumes, list[int]]]:
    """The groups of tasks at these places, each with the positions of its places. All tasks of a
    group have the same homes, also while the groups are placed one after the other.
    """
    template, left = spec.task_template, service if leaves_volumes(service) else None
    if not is_per_task(template):
        mounts = template.container_spec.mounts
        yield GroupVolumes(mounts, _NONE, template.volumes, service, left), list(range(len(places)))
        return
    own = {slot: volume_mounts(state, service, spec, slot, node_id) for slot, node_id in places}
    held = [book.restricted(service, volumes_of(own[slot])) for slot, _ in places]
    free = [book.without_home(service, volumes_of(own[slot])) for slot, _ in places]
    kept = [book.kept(service, volumes_of(own[slot])) for slot, _ in places]
    count = Counter(name for names in free for name in names)
    groups: dict[tuple[tuple[str, ...], ...], list[int]] = {}
    for at, (slot, _) in enumerate(places):
        homes = book.homes_of(volumes_of(own[slot]))
        shared = tuple(name for name in free[at] if count[name] > 1)
        groups.setdefault((homes, held[at], kept[at], shared), []).append(at)
    for (*_, shared), members in groups.items():
        yield GroupVolumes((), own, shared, service, left), members
