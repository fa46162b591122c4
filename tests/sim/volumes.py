"""Volumes: what their users do, and the rules about where their data is and who writes to it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from controller.api.changes.moving.holds import begin_hold
from controller.api.changes.moving.lost import forget_copy
from controller.api.changes.moving.moves import begin_moves, cancel_moves
from controller.api.changes.moving.restoring import begin_restore
from controller.api.changes.volumes import create_volume, remove_volume
from controller.brain.evacuation import evacuated
from pyswarm_core.clock import Clock, Instant, after
from pyswarm_core.ids import ServiceId, TaskId
from pyswarm_core.kinds import VOLUME
from pyswarm_core.objects import Node, Service, Task
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.state import State
from pyswarm_core.volumes.limits import EVACUATION_RETRY
from pyswarm_core.volumes.mounts import Mount
from pyswarm_core.volumes.volume import Volume, VolumeId, VolumePlacement, VolumeSpec
from tests.sim.copying import lost_data
from tests.sim.hosts import Host
from tests.sim.marks import Marks
from tests.sim.rand import Chance
from tests.sim.rules import Rule
from tests.sim.view import Change, View

if TYPE_CHECKING:
    from tests.sim.workload import Users

NAMES = ("v1", "v2", "v3", "own-{{.Task.Slot}}")
"""The last one is a volume for each slot."""
_SLOT = "{{.Task.Slot}}"
_LATER = 10
"""Revisions."""


def with_use(spec: ServiceSpec, volumes: str) -> ServiceSpec:
    """The spec with that --volume-placement."""
    template = spec.task_template
    placement = replace(template.placement, volumes=volumes)
    return replace(spec, task_template=replace(template, placement=placement))


def with_volume(spec: ServiceSpec, name: str, *, read_only: bool) -> ServiceSpec:
    """The spec with that volume."""
    container = spec.task_template.container_spec
    mount = Mount(source=name, target=f"/{name[:3]}", read_only=read_only)
    others = tuple(one for one in container.mounts if one.source != name)
    container = replace(container, mounts=(*others, mount))
    return replace(spec, task_template=replace(spec.task_template, container_spec=container))


class VolumeUsers:
    """Those who create services with volumes, add volumes to services, and remove volumes."""

    def __init__(self, users: "Users", chance: Chance, view: View) -> None:
        self._users = users
        self._chance = chance
        self._view = view

    def acts(self) -> list[Callable[[], None]]:
        """What they may do, the likely things several times."""
        moves = [*[self.move] * 3, self.cancel, *[self.hold] * 3, *[self.forget] * 2]
        moves += [self.leave, *[self.restore] * 2]
        return [*[self.create_service] * 3, self.add, self.create, *[self.remove] * 2, *moves]

    def create_service(self) -> None:
        """A service with one or two volumes, which others may have too."""
        spec = self._users.drawn_spec()
        if spec is not None:
            leaves = self._chance.hits(0.2)
            # Few others have the third: they would rely on its only copy.
            names = ("v3",) if leaves else NAMES[: self._chance.choice((1, 1, 2))]
            for name in names:
                spec = with_volume(spec, name, read_only=self._chance.hits(0.2))
            if leaves:
                spec = with_use(spec, "any")
            self._users.create_as(spec)

    def leave(self) -> None:
        """A service may start without the data of its volumes, or may not any more."""
        if (service := self._users.some_service()) is not None:
            use = self._chance.choice(("any", "any", ""))
            spec = with_use(service.spec, use)
            self._users.update(service, spec, f"volume placement {use}")

    def add(self) -> None:
        """A volume for a service that runs."""
        if (service := self._users.some_service()) is not None:
            name = self._chance.choice(NAMES)
            self._users.update(service, with_volume(service.spec, name, read_only=False), name)

    def create(self) -> None:
        """Before any task."""
        placement = self._chance.choice(tuple(VolumePlacement))
        name = self._chance.choice(NAMES).replace(_SLOT, str(self._chance.choice((1, 2, 3))))
        spec = VolumeSpec(name=name, placement=placement)
        self._users.send(
            f"volume create {spec.name}",
            lambda state, now, ids: create_volume(state, spec, now, ids),
        )

    def remove(self) -> None:
        """It is refused while something uses it."""
        volumes = [one for one in self._view.of(VOLUME).values() if not one.removing]
        if volumes:
            name = self._chance.choice(volumes).spec.name
            self._users.send(
                f"volume rm {name}", lambda state, now, ids: remove_volume(state, name, now)
            )

    def move(self) -> None:
        """A volume to some node, as often as not with all others of its node."""
        volumes = [one for one in self._view.of(VOLUME).values() if one.home and not one.removing]
        if volumes and (node := self._node()) is not None:
            first = self._chance.choice(volumes)
            others = [one for one in volumes if one.home == first.home]
            names = tuple(one.spec.name for one in (first, *others[: self._chance.choice((0, 1))]))
            force = self._chance.hits(0.5)
            self._users.send(
                f"volume move {' '.join(names)} to {node.description.hostname}",
                lambda state, now, ids: begin_moves(state, names, node.id, now, force=force),
                lambda answer: self._users.marks.hit("volume move began"),
            )

    def cancel(self) -> None:
        """Somebody cannot wait."""
        moving = [one.spec.name for one in self._view.of(VOLUME).values() if one.work]
        if moving:
            name = self._chance.choice(moving)
            self._users.send(
                f"volume move --cancel {name}",
                lambda state, now, ids: cancel_moves(state, (name,), now),
                lambda answer: self._users.marks.hit("volume move cancelled"),
            )

    def hold(self) -> None:
        """A backup that its program leaves alone, so that it ends by itself."""
        name = self._chance.choice(NAMES)
        self._users.send(
            f"volume backup {name}",
            lambda state, now, ids: begin_hold(state, name, "volume backup", now),
            lambda answer: self._users.marks.hit("volume held"),
        )

    def restore(self) -> None:
        """A backup, where the copy is or on some node."""
        name, node = self._chance.choice(NAMES), self._node()
        where = node.id if node is not None and self._chance.hits(0.7) else ""
        self._users.send(
            f"volume restore {name} {where}",
            lambda state, now, ids: begin_restore(name, where, hold=True)(state, now, ids),
        )

    def forget(self) -> None:
        """The copy on a node; refused if that is ready."""
        found = [
            (volume.spec.name, node_id)
            for volume in self._view.of(VOLUME).values()
            for node_id in volume.copies
            if not volume.removing
        ]
        if found:
            name, node_id = self._chance.choice(found)
            self._users.send(
                f"volume forget {name} {node_id}",
                lambda state, now, ids: forget_copy(state, name, node_id, now),
                lambda answer: self._users.marks.hit("copy given up"),
            )

    def _node(self) -> Node | None:
        nodes = list(self._view.nodes.values())
        return self._chance.choice(nodes) if nodes else None


def is_held(state: State, service: Service, task: Task) -> bool:
    """Whether the task may not run where it is because of a volume: it is moved, held, or was given
    up on that node.
    """
    template = service.template(task.spec_version)
    place = task.node_id if service.spec.mode.per_node else str(task.slot)
    mounted = template.volumes if template is not None else ()
    named = [name.replace(_SLOT, place) for name in mounted]
    return any(
        one.work is not None or (task.node_id in one.forgotten and task.node_id not in one.copies)
        for one in state.of(VOLUME).values()
        if one.spec.name in named and not one.removing
    )


def waits_for_data(service: Service, view: View, task: Task | None = None) -> bool:
    """Whether its tasks run on one node alone, because of a volume; of a task, on its own node."""
    named = service.spec.task_template.volumes
    if task is not None:
        place = task.node_id if service.spec.mode.per_node else str(task.slot)
        named = tuple(name.replace(_SLOT, place) for name in named)
    whole = {name for name in named if _SLOT not in name}
    begun = tuple(name.partition(_SLOT)[0] for name in named if _SLOT in name)
    for one in view.of(VOLUME).values():
        is_named = one.spec.name in whole or (bool(begun) and one.spec.name.startswith(begun))
        if is_named and one.home and (task is None or one.home == task.node_id):
            return True
    return False


class DataStays:
    """A task starts only where the data of its volumes is, beside no other task of its slot that
    writes; a copy is deleted only if its volume was removed, and nothing runs on it.
    """

    rule = Rule.DATA_STAYS

    def __init__(self, hosts: Mapping[str, Host], marks: Marks) -> None:
        self._hosts = hosts
        self._marks = marks
        self._written: dict[str, set[str]] = {}
        """The tasks that had each volume, until a copy of it was given up."""
        self._started: list[tuple[Host, TaskId]] = []
        self._deleted: list[tuple[Host, str]] = []
        for host in hosts.values():
            host.engine.on_volumes = partial(self._start, host)
            host.engine.on_deleted_volume = partial(self._delete, host)
        self._found: list[str] = []
        self._left: list[tuple[int, Volume, set[ServiceId]]] = []
        """Volumes that a service gave several copies, and the services that relied on one."""

    def _taken(self, view: View) -> Iterator[str]:
        """Services that lost the only copy of a volume. Volumes are stored before services, so that
        a service which leaves it may still rely on it for some revisions.
        """
        due = [one for one in self._left if not one[0]]
        self._left[:] = [(left - 1, one, some) for left, one, some in self._left if left]
        for _, volume, before in due:
            for service in _relying(volume, view):
                if service.id in before:
                    name = volume.spec.name
                    yield f"service {service.spec.name} lost the only copy of volume {name}"

    def _start(self, host: Host, task_id: TaskId) -> None:
        container = host.engine.containers[task_id]
        self._started.append((host, task_id))
        for other in host.engine.containers.values():
            if other.running and other.id != task_id and other.claim == container.claim != "":
                self._found.append(f"tasks {other.id} and {task_id} write to volumes of one slot")

    def _delete(self, host: Host, volume_id: str) -> None:
        self._deleted.append((host, volume_id))
        for one in host.engine.containers.values():
            if one.running and volume_id in one.volumes:
                self._found.append(f"{host.name} deleted volume {volume_id}, which {one.id} has")

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        found, self._found[:] = list(self._found), []
        yield from found
        for old, new in change.of(VOLUME):
            if old is not None and (new is None or _gave_up(old, new)):
                self._written.pop(old.id, None)
            if new is not None:
                self._note(old, new, view)
                yield from _wrong(new)
                if old is not None and old.home and not new.home and new.copies:
                    self._marks.hit("volume left by a service")
                    self._left.append((_LATER, new, {one.id for one in _relying(new, view)}))
        yield from self._taken(view)
        started, self._started[:] = list(self._started), []
        for host, task_id in started:
            yield from self._started_on(host, task_id, view)
        yield from lost_data(view.of(VOLUME), tuple(self._hosts.values()), self._written)
        deleted, self._deleted[:] = list(self._deleted), []
        for host, volume_id in deleted:
            self._marks.hit("volume deleted")
            volume = view.of(VOLUME).get(VolumeId(volume_id))
            if volume is not None and not volume.removing and host.node_id in volume.copies:
                yield f"{host.name} deleted its copy of volume {volume.spec.name}"

    def _note(self, old: Volume | None, new: Volume, view: View) -> None:
        if old is None or bool(old.work) is bool(new.work):
            return
        if new.work is None:
            self._marks.hit("work on a volume ended")
            return
        node = view.nodes.get(new.home)
        if node is not None and node.spec.move_volumes:
            self._marks.hit("volume leaves a drained node")

    def _started_on(self, host: Host, task_id: TaskId, view: View) -> Iterator[str]:
        container = host.engine.containers.get(task_id)
        for volume_id in container.volumes if container else ():
            volume = view.of(VOLUME).get(VolumeId(volume_id))
            if volume is None or volume.spec.placement is not VolumePlacement.PINNED:
                continue
            if host.node_id in volume.forgotten and host.node_id not in volume.copies:
                continue  # its agent does not know yet
            self._marks.hit("task started on a volume")
            had = host.engine.volumes.get(volume_id, set())
            missing = self._written.get(volume_id, set()) - had
            if missing:
                yield f"task {task_id} started on {host.name} without what {missing} wrote"
            elif len(had) > 1:
                self._marks.hit("task found the data of another")
            self._written.setdefault(volume_id, set()).add(task_id)
            yield from self._beside(host, task_id, volume)

    def _beside(self, host: Host, task_id: TaskId, volume: Volume) -> Iterator[str]:
        for other in self._hosts.values():
            if other is host or other.node_id in volume.forgotten or not other.powered:
                continue
            for one in other.engine.containers.values():
                if one.running and volume.id in one.volumes:
                    name = volume.spec.name
                    yield f"tasks {task_id} and {one.id} have volume {name} on two nodes"


def _wrong(volume: Volume) -> Iterator[str]:
    """A pinned volume has one copy, and that is deleted with the volume alone."""
    if volume.removing:
        return
    if volume.spec.placement is VolumePlacement.PINNED and len(volume.copies) > 1:
        yield f"volume {volume.spec.name} has copies on {volume.copies}"
    if set(volume.copies) & set(volume.leaving):
        yield f"volume {volume.spec.name} deletes one of its copies: {volume}"


def _relying(volume: Volume, view: View) -> Iterator[Service]:
    """The services that mount the volume and do not start without its data."""
    for service in view.services.values():
        specs = (service.spec, *[one.spec for one in service.previous_specs])
        mounts = any(volume.spec.name in spec.task_template.volumes for spec in specs)
        relies = service.spec.task_template.placement.volumes != "any"
        if mounts and relies and not service.removing:
            yield service


def _gave_up(old: Volume, new: Volume) -> bool:
    """Whether a user gave up the only copy, so that its tasks may start on an empty one: a copy
    that was moved is deleted.
    """
    return any(one not in (*new.copies, *new.leaving) for one in old.copies)


def to_move(state: State, clock: Clock | None) -> Iterator[str]:
    """Volumes that a drained node will give away once they are looked at again."""
    now = after(clock.now(), 2 * EVACUATION_RETRY) if clock is not None else Instant(0)
    for volume in evacuated(state, now).volumes:
        if volume.work is not None or not state.of(VOLUME)[volume.id].failure:
            yield f"volume {volume.spec.name} is to leave its drained node"


def wrong_copies(view: View, hosts: Iterable[Host]) -> Iterator[str]:
    """Copies that hosts still have of volumes that were removed, and removals without an end."""
    alive = {host.node_id for host in hosts if not host.lost and host.worker is not None}
    for host in hosts:
        if host.node_id not in alive or host.node_id not in view.nodes:
            continue
        for volume_id in host.engine.volumes:
            if VolumeId(volume_id) not in view.of(VOLUME):
                yield f"{host.name} still has a copy of volume {volume_id}, which is gone"
    for volume in view.of(VOLUME).values():
        left = [one for one in volume.copies if one in alive and one in view.nodes]
        if volume.removing and left:
            yield f"volume {volume.spec.name} is being removed and has copies on {left}"
        leaving = [one for one in volume.leaving if one in alive and one in view.nodes]
        if leaving:
            yield f"volume {volume.spec.name} has yet to be deleted on {leaving}"
        if volume.work is not None:
            yield f"volume {volume.spec.name} still has work: {volume.work}"
