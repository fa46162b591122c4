"""Moves the volumes of drained nodes, if the operator requested it (`NodeSpec.move_volumes`). PURE.

Volumes that a service mounts together move together, to a node where the scheduler would place the
tasks of all services that mount them. At most EVACUATION_MOVES move at a time. Why one cannot leave
is in its `failure`; it is looked at again after EVACUATION_RETRY.
"""

from collections.abc import Container, Iterable, Iterator
from itertools import cycle, islice
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from controller.brain.demands import current_demand
from controller.brain.scheduler.explain import message
from controller.brain.scheduler.filters import Demand, capacity
from controller.brain.scheduler.ledger import Ledger
from controller.brain.scheduler.ranking import spread
from controller.brain.volumes import volume_named
from controller.brain.volumework import Upkeep, foreign, mounting, together
from pyswarm_core.clock import NEVER, Instant, after
from pyswarm_core.decision import EventKind
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.indexes.nodes import BoolColumn
from pyswarm_core.objects import Node, Service, clipped
from pyswarm_core.state import State
from pyswarm_core.states import NodeState
from pyswarm_core.views import Event
from pyswarm_core.volumes.limits import (
    COPIES_PROTOCOL,
    EVACUATION_LOOKS,
    EVACUATION_MOVES,
    EVACUATION_RETRY,
    VOLUME_FAILURE_BYTES,
)
from pyswarm_core.volumes.volume import (
    Volume,
    VolumeId,
    VolumePlacement,
    VolumeWork,
    VolumeWorkKind,
)

_PERIOD = EVACUATION_RETRY // 12
"""Pause between two passes."""
_PASSED = 1024
"""Volumes that one pass skips, because they already move or have failed recently."""
_NAMED = 64
"""Volumes of a node that a warning examines."""
_GROUP_MAX = 64
"""Volumes that move together at most."""


class Group(NamedTuple):
    """Volumes of one node that can only move together, and the services that mount them."""

    volumes: tuple[Volume, ...]
    services: tuple[tuple[Service, int], ...]
    """Each with how many of its tasks mount one of them."""
    blocked: str = ""
    """Why they cannot leave their node, for people."""


def evacuated(state: State, now: Instant, written: Container[VolumeId] = ()) -> Upkeep:
    """Moves to begin, and volumes that cannot leave with the reasons. Volumes in `written`, and
    those that move with them, are left out. The cost is bounded by EVACUATION_LOOKS, whatever the
    nodes have.
    """
    nodes = list(_evacuating(state))
    if not nodes:
        return Upkeep()
    ledger = Ledger(state.node_table)
    _reserve(state, ledger, now)
    room = EVACUATION_MOVES - len(state.copies.moves)
    changed: dict[VolumeId, Volume] = {}
    events: list[Event] = []
    for volume in _candidates(state, nodes, now):
        if volume.id in changed or room <= 0:
            continue
        group = group_of(state, volume)
        if any(one.id in written for one in group.volumes):
            continue
        to, why = _destination(state, ledger, group, now)
        if to is not None:
            room -= len(group.volumes)
        for one in group.volumes:
            new = _begun(one, to, now) if to is not None else _stuck(one, why, now)
            if new is not one:
                changed[one.id] = new
                events.append(_event(new, to, why))
    services = {
        service.id: None for one in changed.values() if one.work for service in mounting(state, one)
    }
    return Upkeep(tuple(changed.values()), tuple(services), tuple(events), next_look(state, now))


def next_look(state: State, now: Instant) -> Instant:
    """When to examine again what drained nodes have left."""
    left = any(state.copies.of_node(node.id) for node in _evacuating(state))
    return Instant((now // _PERIOD + 1) * _PERIOD) if left else NEVER


def _evacuating(state: State) -> Iterator[Node]:
    table = state.node_table
    for row in np.flatnonzero(table.draining).tolist():
        node = table.nodes[row]
        if node is not None and node.spec.move_volumes:
            yield node


def _candidates(state: State, nodes: list[Node], now: Instant) -> Iterator[Volume]:
    """Volumes that may begin to move, at most EVACUATION_LOOKS of all nodes together; others the
    next time, in turns.
    """
    total = sum(len(state.copies.of_node(node.id)) for node in nodes)
    begin = int(now // _PERIOD) * EVACUATION_LOOKS % total if total else 0
    left = EVACUATION_LOOKS
    for node, volume in islice(_in_turn(state, nodes, begin), min(total, _PASSED)):
        is_recent = volume.failure and after(volume.updated_at, EVACUATION_RETRY) > now
        if volume.home == node.id and not (volume.removing or volume.work or is_recent):
            yield volume
            left -= 1
            if not left:
                return


def _in_turn(state: State, nodes: list[Node], begin: int) -> Iterator[tuple[Node, Volume]]:
    """The volumes of all nodes, beginning with that one, as a ring."""
    for node in cycle(nodes):
        held = state.copies.of_node(node.id)
        for volume in islice(held.values(), begin, None):
            yield node, volume
        begin = max(0, begin - len(held))


def group_of(state: State, first: Volume) -> Group:
    """The volumes that have to move with this one."""
    volumes, found = {first.id: first}, [first]
    slots: dict[ServiceId, dict[int, None]] = {}
    while found and len(volumes) <= _GROUP_MAX:
        volume = found.pop()
        for service in mounting(state, volume):
            users = None if service.removing else together(state, service, volume.spec.name)
            if users is None:
                continue
            slots.setdefault(service.id, {}).update(dict.fromkeys(users.slots))
            for name in users.names:
                other = volume_named(state, name)
                if other is not None and other.home and other.id not in volumes:
                    volumes[other.id] = other
                    found.append(other)
    users_of = tuple((state.services[one], len(held)) for one, held in slots.items())
    group = Group(tuple(volumes.values()), users_of)
    return group._replace(blocked=_blocked(state, group, first.home))


def _blocked(state: State, group: Group, source: NodeId) -> str:
    node = state.nodes.get(source)
    if node is None or node.status.state is not NodeState.READY:
        return "its node is not ready"
    if node.description.spoken < COPIES_PROTOCOL:
        return f"the agent of its node copies no volumes (protocol below {COPIES_PROTOCOL})"
    if len(group.volumes) > _GROUP_MAX:
        return f"more than {_GROUP_MAX} volumes have to move together"
    for service, _ in group.services:
        if service.spec.mode.is_container and service.pinned_node == source:
            name = service.spec.name
            return f"container {name} mounts it and keeps its writable layer there"
    return next(filter(None, (_keeps(one, source) for one in group.volumes)), "")


def _keeps(volume: Volume, source: NodeId) -> str:
    """Why the volume cannot leave its node, for people; empty if it can."""
    if volume.home != source:
        return f"a service also mounts volume {volume.spec.name}, which is on another node"
    if volume.work is not None:
        return f"volume {volume.spec.name} is being moved or held"
    if why := foreign(volume):
        return f"volume {volume.spec.name} is not moved: {why}"
    if volume.spec.placement is not VolumePlacement.PINNED:
        return f"volume {volume.spec.name} has a copy on each node"
    return ""


def _destination(
    state: State, ledger: Ledger, group: Group, now: Instant
) -> tuple[NodeId | None, str]:
    """The node where the tasks of all the group's services fit, with their copies; or None, and the
    reason.
    """
    if group.blocked:
        return None, group.blocked
    table = state.node_table
    rows = table.schedulable & (table.protocol >= COPIES_PROTOCOL)
    leaving = [node_id for volume in group.volumes for node_id in volume.leaving]
    rows[[table.rows[one] for one in leaving if one in table.rows]] = False
    wanted = _wanted(state, group.services, now)
    for some in (wanted, [(demand, 1) for demand, _ in wanted]):  # all tasks, else one of each
        fits = rows & _fit(ledger, some)
        if fits.any():
            row = _best(ledger, some, fits)
            for demand, count in some:
                ledger.place(np.full(count, row, np.int64), demand.footprint)
            return table.ids[row], ""
    told = next((text for demand, _ in wanted if (text := message(ledger, demand))), "")
    return None, told or "no suitable node: none is ready, active and has an agent that copies"


def _fit(ledger: Ledger, wanted: list[tuple[Demand, int]]) -> BoolColumn:
    """The nodes where the given number of tasks of each service fit together."""
    cpus = sum(count * demand.footprint.nano_cpus for demand, count in wanted)
    memory = sum(count * demand.footprint.memory_bytes for demand, count in wanted)
    fits: BoolColumn = ledger.free_tasks >= sum(count for _, count in wanted)
    fits &= (cpus == 0) | (ledger.free_cpus >= cpus)
    fits &= (memory == 0) | (ledger.free_memory >= memory)
    for demand, count in wanted:
        fits &= capacity(ledger, demand) >= max(count, 1)
    return fits


def _wanted(
    state: State, services: Iterable[tuple[Service, int]], now: Instant
) -> list[tuple[Demand, int]]:
    found = []
    for service, count in services:
        demand = current_demand(state, service, now)
        most = 1 if service.spec.mode.per_node else count
        found.append((demand._replace(homes=()), 0 if service.spec.stopped else most))
    return found


def _best(ledger: Ledger, wanted: list[tuple[Demand, int]], fits: BoolColumn) -> int:
    if not wanted:  # nothing mounts it: the node with the most free memory
        return int(np.argmax(np.where(fits, ledger.free_memory, np.iinfo(np.int64).min)))
    demand, _ = wanted[0]
    return int(spread(ledger, demand, np.where(fits, 1, 0), 1)[0])


def _reserve(state: State, ledger: Ledger, now: Instant) -> None:
    """Reserve what moves that are under way will need at their destinations."""
    slots: dict[tuple[int, ServiceId], dict[int, None]] = {}
    for volume in state.copies.moves.values():
        row = state.node_table.rows.get(volume.work.to) if volume.work else None
        for service in mounting(state, volume) if row is not None else ():
            if row is not None and (users := together(state, service, volume.spec.name)):
                slots.setdefault((row, service.id), {}).update(dict.fromkeys(users.slots))
    for (row, service_id), held in slots.items():
        for demand, count in _wanted(state, [(state.services[service_id], len(held))], now):
            ledger.place(np.full(count, row, np.int64), demand.footprint)


def _begun(volume: Volume, to: NodeId, now: Instant) -> Volume:
    work = VolumeWork(kind=VolumeWorkKind.MOVE, to=to, started_at=now)
    return replace(volume, work=work, failure="", updated_at=now)


def _stuck(volume: Volume, why: str, now: Instant) -> Volume:
    failure = clipped(f"it cannot leave its drained node: {why}", VOLUME_FAILURE_BYTES)
    if volume.failure == failure or volume.work is not None:
        return volume
    return replace(volume, failure=failure, updated_at=now)


def _event(volume: Volume, to: NodeId | None, why: str) -> Event:
    kind = EventKind.VOLUME_MOVE_FAILED if to is None else EventKind.VOLUME_MOVE_STARTED
    reason = volume.failure if to is None else f"to node {to}: its node is drained"
    return Event.of(kind, volume.id, volume.spec.name, reason)


def left_by_drain(state: State, node: Node) -> Iterator[str]:
    """The names of volumes with their only copies on the node that would not move by themselves,
    each with the services that mount it.
    """
    for volume in islice(state.copies.of_node(node.id).values(), _NAMED):
        if volume.home != node.id or volume.removing or volume.id in state.copies.moves:
            continue
        if node.spec.move_volumes:
            if why := group_of(state, volume).blocked:
                yield f"{volume.spec.name} ({why})"
        elif users := [one.spec.name for one in mounting(state, volume) if not one.removing]:
            yield f"{volume.spec.name} ({', '.join(users[:3])})"
