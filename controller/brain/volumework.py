"""Moves and holds of volumes: when the copy may begin, and how work ends. PURE.

While a volume has `work`, no task that mounts it runs. A move is copied once all of them have
ended (`ready_to_copy`), then `finished` makes the destination the only copy, or `failed` leaves the
source as it is. docs/decisions/0030-moving-volumes.md states the rules.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Set
from itertools import chain
from typing import NamedTuple

from msgspec.structs import replace

from controller.brain.mounts import (
    ever_mounts,
    is_per_task,
    names_of_nodes,
    names_of_slots,
    volumes_of_task,
)
from controller.brain.volumes import volume_named
from pyswarm_core.clock import NEVER, Instant
from pyswarm_core.decision import EventKind, Writes
from pyswarm_core.ids import IdSource, NodeId, ServiceId
from pyswarm_core.kinds import VOLUME
from pyswarm_core.objects import Service, Task, clipped
from pyswarm_core.state import State
from pyswarm_core.states import Availability, NodeState, TaskState, occupies
from pyswarm_core.views import Event
from pyswarm_core.volumes.drivers import LOCAL
from pyswarm_core.volumes.limits import VOLUME_FAILURE_BYTES
from pyswarm_core.volumes.volume import Volume, VolumeId, VolumeWork, VolumeWorkKind

_RUNNING = TaskState.RUNNING


Change = Callable[[State, Instant, IdSource], tuple[Writes, Volume | None]]
"""Its result is None if the work has ended meanwhile: then nothing changes."""


class Upkeep(NamedTuple):
    """What time and lost nodes change of volumes with work."""

    volumes: tuple[Volume, ...] = ()
    services: tuple[ServiceId, ...] = ()
    """Those that mount them: their tasks may run again."""
    events: tuple[Event, ...] = ()
    wake: Instant = NEVER
    """When the next hold ends by itself."""


def upkeep(state: State, now: Instant, written: Container[VolumeId] = ()) -> Upkeep:
    """End holds whose time is over, and moves that cannot go on; volumes in `written` are left out.
    The cost follows the number of volumes with work, at most VOLUME_WORK_MAX.
    """
    if not state.copies.working:
        return Upkeep()
    ended, events, wake = [], [], NEVER
    for volume in state.copies.working.values():
        work = volume.work
        if work is None or volume.id in written:
            continue
        if work.kind is VolumeWorkKind.MOVE:
            if reason := broken(state, volume, work):
                ended.append(failed(state, volume, reason, now))
                events.append(_failed_event(ended[-1]))
        elif work.until <= now:
            ended.append(released(state, volume, now))
        else:
            wake = min(wake, work.until)
    services = dict.fromkeys(
        service_id for one in ended for service_id in state.copies.mounting(one.spec.name)
    )
    return Upkeep(tuple(ended), tuple(services), tuple(events), wake)


def _failed_event(volume: Volume) -> Event:
    return Event.of(EventKind.VOLUME_MOVE_FAILED, volume.id, volume.spec.name, volume.failure)


def foreign(volume: Volume) -> str:
    """Why the volume's files are not copied as a whole, for people; empty if they are: those in a
    directory, or in a file system that a node made.
    """
    spec = volume.spec
    if spec.is_shared:
        kind = spec.driver_opts.get("type", spec.driver)
        return f"its files are on a server ({kind}), and every node reaches it"
    if spec.driver == LOCAL and (spec.size or not spec.driver_opts):
        return ""
    options = ", ".join(f"{key}={spec.driver_opts[key]}" for key in sorted(spec.driver_opts))
    return f"its files are what a node mounts for its options ({options}), and stay there"


def broken(state: State, volume: Volume, work: VolumeWork) -> str:
    """Why a move cannot go on, for people; empty if it can."""
    for what, node_id in (("source", volume.home), ("destination", work.to)):
        node = state.nodes.get(node_id)
        if node is None:
            return f"the {what} node {node_id} was removed"
        if node.status.state is NodeState.DOWN:
            return f"the {what} node {node.description.hostname} is down"
        if what == "destination" and node.spec.availability is Availability.DRAIN:
            return f"the destination node {node.description.hostname} is drained"
    return ""


def held(state: State, volume: Volume) -> str:
    """What holds the tasks of a volume, for people; empty if nothing does."""
    work = volume.work
    if work is None:
        return ""
    name = volume.spec.name
    if work.kind is VolumeWorkKind.HOLD:
        return f"volume {name} is held: {work.reason}"
    return f"volume {name} is being moved to {_host(state, work.to)}"


def _host(state: State, node_id: NodeId) -> str:
    node = state.nodes.get(node_id)
    return node.description.hostname if node is not None else node_id


def unusable(state: State, service: Service, task: Task) -> str:
    """Why a task may not stay on its node because of a volume: the volume has work, or its copy
    there was given up. Empty if the task may stay.
    """
    node_id = task.node_id
    for name in volumes_of_task(state, service, task):
        volume = volume_named(state, name)
        if volume is None:
            continue
        if volume.work is not None:
            return held(state, volume)
        if node_id in volume.forgotten and node_id not in volume.copies:
            return f"the copy of volume {name} on {_host(state, node_id)} was given up"
    return ""


def displaced(state: State, service: Service, most: int) -> tuple[list[int], bool]:
    """The slots whose tasks have to leave because of a volume (`unusable`), about `most` of them;
    and whether these are all. Nothing is looked at unless a volume of the service has work, or was
    given up on a node where the service has tasks.
    """
    tasks = state.tasks_of_service(service.id)
    if not tasks.placed or not _concerns(state, service, tasks.placed):
        return [], True
    slots: list[int] = []
    for number, held_tasks in tasks.slots.items():
        if any(_is_displaced(state, service, task) for task in held_tasks):
            if len(slots) >= most:
                return slots, False
            slots.append(number)
    return slots, True


def _concerns(state: State, service: Service, nodes: Container[NodeId]) -> bool:
    specs = (service.spec, *[one.spec for one in service.previous_specs])
    if any(is_per_task(spec.task_template) for spec in specs):
        concerning = chain(state.copies.working.values(), state.copies.given_up(nodes))
        return any(service.id in state.copies.mounting(one.spec.name) for one in concerning)
    # A node may have thousands of copies that were given up: those of the service are few.
    names = dict.fromkeys(name for spec in specs for name in spec.task_template.volumes)
    volumes = (volume_named(state, name) for name in names)
    return any(
        one is not None and (one.work is not None or any(at in nodes for at in one.forgotten))
        for one in volumes
    )


def _is_displaced(state: State, service: Service, task: Task) -> bool:
    """Whether the task should run and may not stay where it is."""
    if task.desired_state > _RUNNING or not occupies(task.state):
        return False
    return bool(unusable(state, service, task))


def ready_to_copy(state: State, volume: Volume) -> bool:
    """Whether no task that mounts the volume is left on any node, as far as agents reported: its
    files may be copied. Its cost follows the services that mount it, and their tasks while some of
    these have not ended.
    """
    return next(writers(state, volume), None) is None


def writers(state: State, volume: Volume) -> Iterator[tuple[Service, Task]]:
    """The tasks that mount the volume and have not ended, with their services."""
    for service in mounting(state, volume):
        tasks = state.tasks_of_service(service.id)
        templates = {version: service.template(version) for version in tasks.unfinished}
        name = volume.spec.name
        versions = {
            version: one is not None and is_per_task(one)
            for version, one in templates.items()
            if one is None or is_per_task(one) or name in one.volumes
        }
        if versions and sum(tasks.unfinished.values()) > tasks.pending:
            for task in tasks:
                if not occupies(task.state) or task.spec_version not in versions:
                    continue
                is_own = versions[task.spec_version]
                if not is_own or name in volumes_of_task(state, service, task):
                    yield service, task


class Together(NamedTuple):
    """Tasks of a service that mount a volume."""

    names: Iterable[str]
    """Of all volumes that they mount."""
    slots: Set[int]
    """Those that it should have."""


def together(state: State, service: Service, name: str) -> Together | None:
    """The tasks that mount the volume of that name; None if the present spec of the service has
    none. Names of volumes may differ by slot.
    """
    spec = service.spec
    slots = _slots(state, service)
    if not is_per_task(spec.task_template):
        names = spec.task_template.volumes
        return Together(names, slots.keys()) if name in names else None
    if spec.mode.per_node:
        own = names_of_nodes(state, service, spec)
    else:
        own = names_of_slots(state, service, spec, slots)
    found, mounting = dict[str, None](), dict[int, None]()
    for slot, names in own:
        if name in names:
            found.update(dict.fromkeys(names))
            mounting[slot] = None
    return Together(found, mounting.keys()) if found else None


def _slots(state: State, service: Service) -> dict[int, None]:
    """The slots that should have tasks, or have some: of a global service the numbers of nodes."""
    mode = service.spec.mode
    if mode.per_node:
        return {node.number: None for node in state.nodes.values()}
    return dict.fromkeys(range(1, getattr(mode, "replicas", 1) + 1))


def mounting(state: State, volume: Volume) -> Iterator[Service]:
    """The services with a spec that mounts the volume, the present or an earlier one."""
    for service_id in state.copies.mounting(volume.spec.name):
        service = state.services.get(service_id)
        if service is not None and ever_mounts(state, service, volume.spec.name):
            yield service


def ready(state: State) -> list[Volume]:
    """The volumes whose move may be copied now: what the leader's copier has under way is exactly
    this. Level-triggered: a volume is in it until its move has ended, whoever ends it.
    """
    return [volume for volume in state.copies.moves.values() if ready_to_copy(state, volume)]


def same_work(state: State, volume_id: VolumeId, work: VolumeWork) -> Volume | None:
    """The volume if it still has this work, whose `until` may have changed; else None."""
    volume = state.of(VOLUME).get(volume_id)
    now = volume.work if volume is not None and not volume.removing else None
    if now is None or (now.kind, now.to, now.started_at) != (work.kind, work.to, work.started_at):
        return None
    return volume


def finished(state: State, volume: Volume, work: VolumeWork, now: Instant) -> Volume:
    """The volume after its move: the destination has the only copy, the source deletes its own."""
    left = [one for one in volume.copies if one != work.to and one in state.nodes]
    return replace(
        volume,
        copies=(work.to,),
        work=None,
        leaving=tuple(dict.fromkeys((*volume.leaving, *left))),
        forgotten=tuple(one for one in volume.forgotten if one != work.to),
        failure="",
        updated_at=now,
    )


def failed(state: State, volume: Volume, reason: str, now: Instant) -> Volume:
    """The volume after a move that failed: its copy stays, the destination deletes what it has. A
    copy there that was given up before stays: it goes with the volume alone.
    """
    work, kept = volume.work, (*volume.copies, *volume.forgotten)
    leaving = volume.leaving
    if work is not None and work.to in state.nodes and work.to not in kept:
        leaving = tuple(dict.fromkeys((*leaving, work.to)))
    failure = clipped(reason, VOLUME_FAILURE_BYTES)
    return replace(volume, work=None, leaving=leaving, failure=failure, updated_at=now)


def released(state: State, volume: Volume, now: Instant) -> Volume:
    """The volume after a hold. A node that was to get a restored copy, and did not, deletes what it
    has of it.
    """
    work, kept = volume.work, (*volume.copies, *volume.forgotten, *volume.leaving)
    leaving = volume.leaving
    if work is not None and work.to in state.nodes and work.to not in kept:
        leaving = (*leaving, work.to)
    return replace(volume, work=None, leaving=leaving, updated_at=now)


def finish_move(volume_id: VolumeId, work: VolumeWork) -> Change:
    """The change once the destination has the whole copy. The result is None, and nothing changes,
    if this move has ended meanwhile: it was cancelled, or a node was lost.
    """

    def change(state: State, now: Instant, ids: IdSource) -> tuple[Writes, Volume | None]:
        volume = same_work(state, volume_id, work)
        if volume is None or work.to not in state.nodes:
            return Writes(), None
        moved = finished(state, volume, work, now)
        return Writes(objects=(moved,)), moved

    return change


def fail_move(volume_id: VolumeId, work: VolumeWork, reason: str) -> Change:
    """The change if the copy cannot be made. The result is None if this move has ended already."""

    def change(state: State, now: Instant, ids: IdSource) -> tuple[Writes, Volume | None]:
        volume = same_work(state, volume_id, work)
        if volume is None:
            return Writes(), None
        ended = failed(state, volume, reason, now)
        return Writes(objects=(ended,)), ended

    return change
