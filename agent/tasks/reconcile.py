"""What a restarted agent makes of what it finds. PURE.

Invariant: nothing is started twice and no exit is lost. A record says what was asked; a container
on disk says what really happened; where they disagree, the container is believed.
"""

from collections.abc import Iterable, Mapping

import msgspec

from agent.runtime.base import ContainerState, Exit, Found
from agent.tasks.machine import Accepted, Event, Exited, Started, StartFailed
from agent.tasks.record import Record
from pyswarm_core.ids import TaskId
from pyswarm_core.states import TaskState

_LOST = Exited(code=137, error="its container was gone when the agent returned (host restarted?)")


class Adoption(msgspec.Struct, frozen=True):
    """What to do about what was found."""

    events: tuple[tuple[TaskId, Event], ...]
    """Fed to the machine, in order."""
    restart_start: tuple[TaskId, ...]
    """Created, their start was ordered, but it did not happen: start them."""
    unclean: tuple[TaskId, ...]
    """Ended, but container or network may be left: clean up."""
    stray_containers: tuple[str, ...]
    stray_networks: tuple[str, ...]
    """Nobody remembers these: remove them."""


def adopt(
    records: Mapping[TaskId, Record], found: Iterable[Found], networks: Iterable[str]
) -> Adoption:
    """Compare records with containers and task networks that exist."""
    containers = {TaskId(container.id): container for container in found}
    events: list[tuple[TaskId, Event]] = []
    restart_start: list[TaskId] = []
    unclean: list[TaskId] = []
    for task_id, record in sorted(records.items()):
        if record.ended:
            if not record.clean:
                unclean.append(task_id)
            continue
        container = containers.get(task_id)
        if record.state is TaskState.STARTING and _created(container):
            restart_start.append(task_id)
        events.extend((task_id, event) for event in _events(record, container))
    kept = {task_id for task_id, record in records.items() if not record.clean}
    return Adoption(
        events=tuple(events),
        restart_start=tuple(restart_start),
        unclean=tuple(unclean),
        stray_containers=tuple(sorted(str(c) for c in containers if c not in kept)),
        stray_networks=tuple(sorted(n for n in networks if n not in kept)),
    )


def _created(container: Found | None) -> bool:
    return container is not None and container.state is ContainerState.CREATED


def _events(record: Record, container: Found | None) -> tuple[Event, ...]:
    match record.state:
        case TaskState.ACCEPTED | TaskState.PREPARING:
            return (Accepted(),)
        case TaskState.READY:
            return () if _created(container) else (_exit_of(container),)
        case TaskState.STARTING:
            return _started(container)
        case _:
            if container is not None and container.state is ContainerState.RUNNING:
                return (Started(),)
            return (_exit_of(container),)


def _started(container: Found | None) -> tuple[Event, ...]:
    if container is None:
        return (StartFailed("its container was gone when the agent returned"),)
    match container.state:
        case ContainerState.CREATED:
            return ()
        case ContainerState.RUNNING:
            return (Started(),)
        case _:
            ended = _exit_of(container)
            return (ended,) if ended.error else (Started(), ended)


def _exit_of(container: Found | None) -> Exited:
    if container is None or container.exit is None:
        return _LOST
    return exited(container.exit)


def exited(end: Exit) -> Exited:
    """A container's end as the machine hears of it."""
    return Exited(code=end.code, signal=end.signal, oom=end.oom, error=end.error)
