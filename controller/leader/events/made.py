"""The events of what users and the brain write, and of what agents report. PURE."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace

from controller.brain.orchestrator.quarantine import Failure
from controller.identity.policy import STACK_LABEL
from pyswarm_core.clock import Instant
from pyswarm_core.decision import EventKind, Writes
from pyswarm_core.docker import networking
from pyswarm_core.docker.containers import views as containers
from pyswarm_core.ids import NetworkId, ServiceId
from pyswarm_core.kinds import (
    KINDS,
    NETWORK,
    NODE,
    SERVICE,
    STACK,
    VOLUME,
    Kind,
    kind_of,
    split_name,
)
from pyswarm_core.limits import EVENTS_ALIKE
from pyswarm_core.objects import Cluster, HealthState, Node, Object, Service, Task
from pyswarm_core.stacks.stack import Stack
from pyswarm_core.state import State
from pyswarm_core.states import NodeState, TaskState
from pyswarm_core.views import Event
from pyswarm_core.volumes.volume import Volume, VolumeId, VolumeWorkKind

CONTAINER = "container"
"""The type of the events of tasks' containers, as Docker calls it."""


_Maker = Callable[[Kind[Any, Any], Any, Any], Event | None]
"""Makes the event for a change: the kind, the object before, the object now."""


def events_of(state: State, writes: Writes, caller: str = "") -> list[Event]:
    """The events of the caller's writes, compared with the state before they are applied."""
    events = [*_cluster_updated(state.cluster, writes.cluster)]
    for item in writes.objects:
        kind = kind_of(item)
        make: _Maker = _MAKERS.get(kind.name, _change)
        old = state.of(kind).get(item.id)
        event = make(kind, old, item)
        events += (event,) if event else ()
        if isinstance(item, Service):
            events += [*_update_started(old, item), *_network_moves(state, old, item)]
    for name in writes.removed:
        kind_name, object_id = split_name(name)
        if action := _removal(state, kind_name, object_id):
            title = _title(state, kind_name, object_id)
            events.append(Event.of(f"{kind_name}.{action}", object_id, title))
    new = {item.id: _stack_of(item) for item in writes.objects}
    if caller:
        events = [replace(event, caller=caller) for event in events]
    return in_stacks(state, events, new)


def reported_events(state: State, changed: Iterable[Task], now: Instant) -> list[Event]:
    """The events of containers that started or ended, of tasks that an agent reported now. Many of
    one service with the same action are one event, with their number.
    """
    alike: dict[tuple[ServiceId, str], list[Task]] = {}
    for task in changed:
        if task.status_at == now and task.state >= TaskState.RUNNING:
            for action in _actions(task):
                alike.setdefault((task.service_id, action), []).append(task)
    events = []
    for (service_id, action), tasks in alike.items():
        service = state.services.get(service_id)
        for task in tasks[:1] if len(tasks) > EVENTS_ALIKE else tasks:
            event = container_event(state, service, action, task)
            count = len(tasks) if len(tasks) > EVENTS_ALIKE else 1
            events.append(replace(event, count=count))
    return events


def _actions(task: Task) -> Iterator[str]:
    """Docker's words for what happened to the task's container."""
    detail = task.detail
    if task.state is TaskState.RUNNING:
        yield "start"
        if detail.health is HealthState.HEALTHY:
            yield "health_status: healthy"
    elif detail.ran:
        if detail.health is HealthState.UNHEALTHY:
            yield "health_status: unhealthy"
        if detail.oom:
            yield "oom"
        yield "die"


def container_event(state: State, service: Service | None, action: str, task: Task) -> Event:
    """The event of a task's container, with the id that `ps` shows."""
    container_id = containers.id_of(service, task) if service else task.id
    name = service.name_of(task) if service else ""
    node = state.nodes.get(task.node_id)
    detail = task.detail
    reason = f"exit code {detail.exit_code}" if action == "die" else ""
    if action == "die" and detail.error:
        reason += f", {detail.error}"
    return replace(
        Event.of(f"{CONTAINER}.{action}", container_id, name, reason),
        node=node.description.hostname if node else "",
        stack=_stack_of(service) if service else "",
    )


def in_stacks(
    state: State, events: Iterable[Event], new: Mapping[str, str] = MappingProxyType({})
) -> list[Event]:
    """The events with the stacks of their objects: of `new` ones by id, of others in the state
    before the change, which still has those that it removes.
    """
    found = []
    for event in events:
        stack = new.get(event.id)
        if stack is None:
            # Events of tasks have the id of their service.
            kind = KINDS.get(SERVICE.name if event.type == "task" else event.type)
            item = state.of(kind).get(event.id) if kind else None
            stack = _stack_of(item) if item else ""
        found.append(replace(event, stack=stack) if stack else event)
    return found


def _stack_of(item: Object) -> str:
    return kind_of(item).labels(item).get(STACK_LABEL, "")


def _cluster_updated(old: Cluster, new: Cluster | None) -> Iterator[Event]:
    if new is None or (new.spec, new.unlock_key) == (old.spec, old.unlock_key):
        return
    names = [n for n in new.spec.__struct_fields__ if getattr(new.spec, n) != getattr(old.spec, n)]
    reason = ", ".join(names) or "unlock key rotated"
    yield Event.of("cluster.update", new.id, new.spec.name, reason)


def quarantine_event(state: State, failure: Failure) -> Event:
    """The event for an object that was quarantined."""
    kind_name, object_id = split_name(failure.name)
    name = _title(state, kind_name, object_id)
    event = Event.of(f"{kind_name}.quarantine", object_id or kind_name, name, failure.reason)
    return in_stacks(state, [event])[0]


def _title(state: State, kind_name: str, object_id: str) -> str:
    """The object's name; empty if it does not exist or could not be read."""
    kind = KINDS.get(kind_name)
    item = state.of(kind).get(object_id) if kind else None
    return kind.title(item) if kind and item else ""


def _change(kind: Kind[Any, Any], old: Object | None, item: Object) -> Event | None:
    action = "create" if old is None else "update"
    return Event.of(f"{kind.name}.{action}", item.id, kind.title(item))


def _removal(state: State, kind_name: str, object_id: str) -> str:
    """The word for the removal of an object; empty if its event came earlier."""
    if kind_name != VOLUME.name:
        return "remove"
    volume = state.of(VOLUME).get(VolumeId(object_id))
    return "" if volume is not None and volume.removing else "destroy"


def _service_change(kind: Kind[Any, Any], old: Service | None, service: Service) -> Event | None:
    if service.removing:
        return None  # the event follows when its last task is gone
    return _change(kind, old, service)


def _network_moves(state: State, old: Object | None, service: Service) -> Iterator[Event]:
    """The events of networks that a container joined or left."""
    if not isinstance(old, Service) or old.spec is service.spec or service.removing:
        return
    moves = networking.moves(old.spec, service.spec)
    for action, networks in (("connect", moves.joined), ("disconnect", moves.left)):
        for target in networks:
            network = state.networks.get(NetworkId(target))
            name = network.spec.name if network else target
            event = Event.of(f"{NETWORK.name}.{action}", target, name)
            yield replace(event, container=service.spec.name)


def _update_started(old: Object | None, service: Service) -> Iterator[Event]:
    """The event of an update or a rollback that began with this change."""
    before = old.update_status if isinstance(old, Service) else None
    status = service.update_status
    if status is None or service.removing or not status.state.is_unfinished:
        return
    if before is not None and before.started_at == status.started_at:
        return
    word = "rollback" if status.state.is_rollback else "update"
    slots = f"{status.slots} slot" + ("" if status.slots == 1 else "s")
    reason = f"{word} to version {status.to_version}, {slots}"
    yield Event.of(EventKind.UPDATE_STARTED, service.id, service.spec.name, reason)


def _node_change(kind: Kind[Any, Any], old: Node | None, node: Node) -> Event | None:
    down = NodeState.DOWN
    if old is not None and node.status.state is down and old.status.state is not down:
        return Event.of(EventKind.NODE_DOWN, node.id, kind.title(node), node.status.message)
    return _change(kind, old, node)


def _volume_change(kind: Kind[Any, Any], old: Volume | None, volume: Volume) -> Event | None:
    """The event of a move that began or ended; none for a longer hold or another copy. Docker's
    `destroy` comes as soon as the volume's name is free.
    """
    if old is not None and volume.removing:
        name = kind.title(volume)
        return None if old.removing else Event.of(f"{kind.name}.destroy", volume.id, name)
    if old is not None and old != volume and replace(old, copies=volume.copies) == volume:
        return None
    name = volume.spec.name
    given_up = [one for one in old.copies if one not in volume.copies] if old is not None else []
    if given_up and not volume.removing and given_up[0] not in volume.leaving:
        reason = f"the copy on node {given_up[0]} was given up"
        return Event.of(EventKind.VOLUME_FORGOTTEN, volume.id, name, reason)
    if old is None or old.work == volume.work:
        return _change(kind, old, volume)
    return _work_change(kind, old, volume)


def _work_change(kind: Kind[Any, Any], old: Volume, volume: Volume) -> Event | None:
    """The event of a volume whose work changed."""
    before, now, name = old.work, volume.work, volume.spec.name
    if now is not None and now.kind is VolumeWorkKind.MOVE:
        return Event.of(EventKind.VOLUME_MOVE_STARTED, volume.id, name, f"to node {now.to}")
    if before is not None and before.kind is VolumeWorkKind.MOVE:
        if volume.failure:
            return Event.of(EventKind.VOLUME_MOVE_FAILED, volume.id, name, volume.failure)
        return Event.of(EventKind.VOLUME_MOVE_COMPLETED, volume.id, name, f"to node {before.to}")
    if before is not None and now is not None:
        return None
    return _change(kind, old, volume)


def _stack_change(kind: Kind[Any, Any], old: Stack | None, stack: Stack) -> Event | None:
    """The event of a change of a stack; none for what the leader completes later."""
    if old is not None and old.version == stack.version:
        return None
    event = _change(kind, old, stack)
    if event is None or stack.removing:
        return None  # the event follows when it is gone
    return replace(event, reason=f"version {stack.spec_version}")


_MAKERS: Mapping[str, _Maker] = {
    STACK.name: _stack_change,
    VOLUME.name: _volume_change,
    SERVICE.name: _service_change,
    NODE.name: _node_change,
}
"""Kinds with other events than create and update."""
