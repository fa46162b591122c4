"""How a restarted agent adopts tasks: compares records with the containers that exist. PURE.

Invariants: nothing is started twice, and no exit is lost. A record says what the former agent
decided, a container what happened; where they disagree, the container is right.
"""

from collections.abc import Iterable, Mapping

import msgspec

from agent.runtime.base import ContainerExit, ContainerState, FoundContainer
from agent.tasks.events import (
    Accepted,
    Exited,
    PauseChanged,
    Started,
    StartFailed,
    TaskEvent,
)
from agent.tasks.record import Record
from pyswarm_core.clock import Instant
from pyswarm_core.ids import TaskId
from pyswarm_core.states import TaskState

_LOST = Exited(
    code=137, error="container does not exist after the agent restarted (did the host restart?)"
)


class Adoption(msgspec.Struct, frozen=True):
    """What the worker does with the records and containers of a former agent."""

    events: tuple[tuple[TaskId, TaskEvent], ...]
    """Events for the task machine, in order."""
    unstarted: tuple[TaskId, ...]
    """Tasks to start: the record says starting, but the container is only created."""
    unclean: tuple[TaskId, ...]
    """Tasks to clean: they ended, but container or network may be left."""
    stray_containers: tuple[str, ...]
    stray_networks: tuple[str, ...]
    """Containers and networks to remove: they have no record."""


def adopt(
    records: Mapping[TaskId, Record], found: Iterable[FoundContainer], networks: Iterable[str]
) -> Adoption:
    """Compare records with the containers and task networks that exist."""
    containers = {TaskId(container.id): container for container in found}
    events: list[tuple[TaskId, TaskEvent]] = []
    unstarted: list[TaskId] = []
    unclean: list[TaskId] = []
    for task_id, record in sorted(records.items()):
        if record.ended:
            if not record.clean:
                unclean.append(task_id)
            continue
        container = containers.get(task_id)
        if record.state is TaskState.STARTING and _created(container):
            unstarted.append(task_id)
        events.extend((task_id, event) for event in _events(record, container))
    kept = {task_id for task_id, record in records.items() if not record.clean}
    return Adoption(
        events=tuple(events),
        unstarted=tuple(unstarted),
        unclean=tuple(unclean),
        stray_containers=tuple(sorted(str(c) for c in containers if c not in kept)),
        stray_networks=tuple(sorted(n for n in networks if n not in kept)),
    )


def _created(container: FoundContainer | None) -> bool:
    return container is not None and container.state is ContainerState.CREATED


def _events(record: Record, container: FoundContainer | None) -> tuple[TaskEvent, ...]:
    if record.process_runs:
        if container is not None and container.state is ContainerState.RUNNING:
            is_same = container.paused is record.detail.paused
            return (Started(),) if is_same else (Started(), PauseChanged(container.paused))
        return (_exit_of(container),)
    match record.state:
        case TaskState.ACCEPTED | TaskState.PREPARING:
            return (Accepted(),)
        case TaskState.READY:
            return () if _created(container) else (_exit_of(container),)
        case _:
            return _started(container)


def _started(container: FoundContainer | None) -> tuple[TaskEvent, ...]:
    if container is None:
        return (StartFailed("container does not exist after the agent restarted"),)
    match container.state:
        case ContainerState.CREATED:
            return ()
        case ContainerState.RUNNING:
            return (Started(),)
        case _:
            ended = _exit_of(container)
            return (ended,) if ended.error else (Started(), ended)


def _exit_of(container: FoundContainer | None) -> Exited:
    if container is None or container.exit is None:
        return _LOST
    return exited(container.exit)


def exited(end: ContainerExit) -> Exited:
    """The event for a container's exit."""
    return Exited(
        code=end.code, signal=end.signal, oom=end.oom, at=Instant(end.at_ns), error=end.error
    )
