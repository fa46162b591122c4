"""How many identical tasks each node could take. PURE.

Swarm's filters in Swarm's order: ready, resources, constraints, host ports, replicas per node; then
the tasks that a node accepts, what the networks require of a kernel, free addresses, the node of
a container's writable layer and of the volumes with one copy, sources of binds, and space for
images. Each one lowers a capacity column. `explain` uses the same filters to say which one
excluded which node.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from controller.brain.scheduler.ledger import Ledger
from controller.brain.volumes import is_strange, may_be_unreadable, relying
from controller.brain.volumework import held
from pyswarm_core.clock import NEVER, Instant
from pyswarm_core.docker.isolation.security import needs_apparmor
from pyswarm_core.identity.users import STACK_LABEL
from pyswarm_core.ids import NodeId
from pyswarm_core.indexes.nodes import BoolColumn, IntColumn, NodeTable
from pyswarm_core.indexes.tasks import Footprint
from pyswarm_core.objects import Service
from pyswarm_core.specs import ContainerSpec, TaskSpec
from pyswarm_core.state import State
from pyswarm_core.states import Capability
from pyswarm_core.validation.isolation import has_user_namespace
from pyswarm_core.volumes.volume import Volume

UNLIMITED = 1 << 40
Homes = tuple["Home", ...]


class KeptLayer(NamedTuple):
    """The nodes that can have the writable layer of a container: the one that has it, or all whose
    agents keep layers.
    """

    container: str
    """Its name."""
    rows: BoolColumn
    host: str = ""
    """The host that has it; empty: none yet."""


class Home(NamedTuple):
    """The nodes that can have a volume: the one that has its only copy, or none if that is gone or
    the volume has work; otherwise all but those that have yet to delete an old copy.
    """

    volume: str
    """Its name."""
    rows: BoolColumn
    host: str
    """Who has it; the node's id if it was removed; empty: the volume may be unreadable."""
    held: str = ""
    """What holds its tasks, for people."""
    moving: bool = False
    """Whether that is a move."""
    is_free: bool = False
    """Tasks may start on all nodes but those that have yet to delete an old copy."""
    may_leave: bool = False
    """The tasks may start on others if no such node can take them: they do without its data, or
    the others have copies that were given up.
    """
    relied: str = ""
    """The service that keeps the tasks from other nodes: it does not start without the data of this
    volume.
    """


class Source(NamedTuple):
    """The nodes that cannot have a task because of the source of a bind."""

    path: str
    lacking: BoolColumn
    """Those that do not have it."""
    others: str
    """Which nodes have it, such as `host1 has it`."""
    waiting: BoolColumn
    """Nodes that have not reported yet whether they have it, and all others until then."""
    until: Instant = NEVER
    """When the wait for their reports ends."""


class Demand(NamedTuple):
    """Identical tasks to place.

    `on_node`: by row, tasks of the service that should run there. `failing`: rows where the service
    failed too often. `rooms`: for networks, a text that says what one lacks, and how many more
    tasks each row could take. `needs`: what networks and the container require of a kernel,
    with who requires it: `network app`, `--userns auto`.
    """

    template: TaskSpec
    footprint: Footprint
    on_node: IntColumn
    failing: IntColumn | None = None
    rooms: tuple[tuple[str, IntColumn], ...] = ()
    needs: tuple[tuple[str, Capability], ...] = ()
    layer: KeptLayer | None = None
    """None: its tasks are of a service, whose writable layers are not kept."""
    homes: tuple[Home, ...] = ()
    """Of the volumes with a single copy that the tasks mount."""
    sources: tuple[Source, ...] = ()
    """Of the binds, if one excludes nodes."""


def container_needs(spec: ContainerSpec) -> tuple[tuple[str, Capability], ...]:
    """What the container requires of a kernel, with the flags that require it."""
    needs = []
    if has_user_namespace(spec):
        needs.append((f"--userns {spec.userns_mode}", Capability.USERNS))
    if needs_apparmor(spec.security_opt):
        needs.append(("--security-opt apparmor", Capability.APPARMOR))
    return tuple(needs)


def kept_layer(table: NodeTable, service: Service) -> KeptLayer | None:
    """Where the service's task may have its writable layer, if it is a container."""
    if not service.spec.mode.is_container:
        return None
    name, rows = service.spec.name, table.keeps_layers
    if not service.pinned_node:
        return KeptLayer(name, rows)
    only = np.zeros(len(table.number), np.bool_)
    row = table.rows.get(service.pinned_node)
    if row is None:  # its node is unreadable: of a removed one nothing is to be placed
        return KeptLayer(name, only, service.pinned_node)
    only[row] = rows[row]
    node = table.nodes[row]
    return KeptLayer(name, only, node.description.hostname if node else "")


def homes(
    state: State,
    names: Iterable[str],
    named: Callable[[str], Volume | None],
    *,
    service: Service | None = None,
    left: Service | None = None,
) -> Homes:
    """Where volumes with these names let tasks of the service run that mount them. `named` finds a
    volume; `left`: the service, if its tasks may start without the data of volumes.
    """
    table, found = state.node_table, []
    for name in names:
        volume = named(name)
        only = np.zeros(len(table.number), np.bool_)
        if volume is None:
            if may_be_unreadable(state, name):
                found.append(Home(name, only, ""))
        elif service is not None and is_strange(service, volume):
            found.append(Home(name, only, "", _strange(service, volume)))
        elif volume.work is not None:
            found.append(Home(name, only, "", held(state, volume), volume.id in state.copies.moves))
        elif volume.home:
            row = table.rows.get(volume.home)
            node = table.nodes[row] if row is not None else None
            only[row if row is not None else []] = True
            host = node.description.hostname if node else volume.home
            other = next(relying(state, left, name), None) if left is not None else None
            is_left = left is not None and other is None
            relied = other.spec.name if other is not None else ""
            found.append(Home(name, only, host, may_leave=is_left, relied=relied))
            if is_left:
                found += _all_but_former(state, volume)
        else:
            found += _all_but_former(state, volume)
    return tuple(found)


def _strange(service: Service, volume: Volume) -> str:
    stack = volume.spec.labels.get(STACK_LABEL, "")
    owner = f"stack {stack}" if stack else "no stack"
    name = service.spec.name
    return (
        f"volume {volume.spec.name} is of {owner}, and was made after service {name} named it: if"
        f" it is to mount that, run pyswarm service update --force {name} as a user who may"
    )


def _all_but_former(state: State, volume: Volume) -> Iterator[Home]:
    """The nodes without former copies of a volume that may get another copy."""
    if volume.leaving:
        yield _all_but(state, volume.spec.name, volume.leaving)
    if given_up := [one for one in volume.forgotten if one not in volume.copies]:
        yield _all_but(state, volume.spec.name, given_up)._replace(may_leave=True)


def _all_but(state: State, name: str, nodes: Iterable[NodeId]) -> Home:
    table = state.node_table
    rows = np.ones(len(table.number), np.bool_)
    rows[[table.rows[one] for one in nodes if one in table.rows]] = False
    return Home(name, rows, "", is_free=True)


def strict(found: Homes) -> Homes:
    """Those that hold also for tasks that may start without the data of some volumes."""
    return tuple(one for one in found if not one.may_leave)


def images_of(template: TaskSpec) -> list[str]:
    """The images that a task needs on its node."""
    container = template.container_spec
    return [container.image, *(one.image for one in container.mounts if one.image)]


def capacity(ledger: Ledger, demand: Demand) -> IntColumn:
    """By row, how many of the tasks fit; 0 where a filter excludes the node."""
    placement = demand.template.placement
    room = np.where(ledger.satisfying(placement.constraints), ledger.free_tasks, 0)
    _limit(room, ledger, demand.footprint)
    if placement.max_replicas > 0:
        np.minimum(room, placement.max_replicas - demand.on_node, out=room)
    for _, left in demand.rooms:
        np.minimum(room, left, out=room)
    for _, capability in demand.needs:
        room[ledger.table.lacking(capability)] = 0
    if demand.layer is not None:
        room[~demand.layer.rows] = 0
    for home in demand.homes:
        room[~home.rows] = 0
    for source in demand.sources:
        room[source.lacking | source.waiting] = 0
    if ledger.table.image_disk_full.any():
        room[ledger.table.without_room_for(images_of(demand.template))] = 0
    return np.maximum(room, 0, out=room)


def _limit(room: IntColumn, ledger: Ledger, footprint: Footprint) -> None:
    """Lower the capacity to what is free of the resources that a task takes."""
    if footprint.nano_cpus > 0:
        np.minimum(room, ledger.free_cpus // footprint.nano_cpus, out=room)
    if footprint.memory_bytes > 0:
        np.minimum(room, ledger.free_memory // footprint.memory_bytes, out=room)
    for kind, count in footprint.generic:
        np.minimum(room, ledger.free_generic(kind) // count, out=room)
    for port in footprint.ports:
        np.minimum(room, ~ledger.held(port), out=room)  # at most one of these tasks per node
