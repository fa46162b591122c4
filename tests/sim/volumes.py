"""Volumes: what their users do, and the rules about where their data is and who writes to it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from controller.api.changes.volumes import create_volume, remove_volume
from pyswarm_core.ids import TaskId
from pyswarm_core.kinds import VOLUME
from pyswarm_core.objects import Service
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.volumes.mounts import Mount
from pyswarm_core.volumes.volume import VolumeId, VolumePlacement, VolumeSpec
from tests.sim.hosts import Host
from tests.sim.marks import Marks
from tests.sim.rand import Chance
from tests.sim.rules import Rule
from tests.sim.view import Change, View

if TYPE_CHECKING:
    from tests.sim.workload import Users

NAMES = ("v1", "v2", "v3")


def with_volume(spec: ServiceSpec, name: str, *, read_only: bool) -> ServiceSpec:
    """The spec with that volume."""
    container = spec.task_template.container_spec
    mount = Mount(source=name, target=f"/{name}", read_only=read_only)
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
        return [*[self.create_service] * 3, self.add, self.create, *[self.remove] * 2]

    def create_service(self) -> None:
        """A service with one or two volumes, which others may have too."""
        spec = self._users.drawn_spec()
        if spec is not None:
            for name in NAMES[: self._chance.choice((1, 1, 2))]:
                spec = with_volume(spec, name, read_only=self._chance.hits(0.2))
            self._users.create_as(spec)

    def add(self) -> None:
        """A volume for a service that runs."""
        if (service := self._users.some_service()) is not None:
            name = self._chance.choice(NAMES)
            self._users.update(service, with_volume(service.spec, name, read_only=False), name)

    def create(self) -> None:
        """Before any task."""
        placement = self._chance.choice(tuple(VolumePlacement))
        spec = VolumeSpec(name=self._chance.choice(NAMES), placement=placement)
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


def waits_for_data(service: Service, view: View, node_id: str = "") -> bool:
    """Whether its tasks run on one node alone, because of a volume: on that one, if named."""
    named = service.spec.task_template.volumes
    homes = [one.home for one in view.of(VOLUME).values() if one.spec.name in named]
    return any(home and node_id in ("", home) for home in homes)


class DataStays:
    """A task starts only where the data of its volumes is, beside no other task of its slot that
    writes; a copy is deleted only if its volume was removed, and nothing runs on it.
    """

    rule = Rule.DATA_STAYS

    def __init__(self, hosts: Mapping[str, Host], marks: Marks) -> None:
        self._hosts = hosts
        self._marks = marks
        self._homes: dict[str, str] = {}
        """The host of the first task of each volume."""
        self._started: list[tuple[Host, TaskId]] = []
        self._deleted: list[tuple[Host, str]] = []
        for host in hosts.values():
            host.engine.on_volumes = partial(self._start, host)
            host.engine.on_deleted_volume = partial(self._delete, host)
        self._found: list[str] = []

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
        started, self._started[:] = list(self._started), []
        for host, task_id in started:
            container = host.engine.containers.get(task_id)
            for volume_id in container.volumes if container else ():
                volume = view.of(VOLUME).get(VolumeId(volume_id))
                if volume is None or volume.spec.placement is not VolumePlacement.PINNED:
                    continue
                self._marks.hit("task started on a volume")
                home = self._homes.setdefault(volume_id, host.name)
                if home != host.name:
                    yield f"task {task_id} started on {host.name}, volume {volume_id} is on {home}"
                elif len(host.engine.volumes.get(volume_id, ())) > 1:
                    self._marks.hit("task found the data of another")
        deleted, self._deleted[:] = list(self._deleted), []
        for host, volume_id in deleted:
            self._marks.hit("volume deleted")
            volume = view.of(VOLUME).get(VolumeId(volume_id))
            if volume is not None and not volume.removing:
                yield f"{host.name} deleted volume {volume.spec.name}, which is not removed"


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
