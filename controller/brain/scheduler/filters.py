"""How many identical tasks each node could take. PURE.

Swarm's filters in Swarm's order: ready, resources, constraints, host ports, replicas per node; then
the tasks that a node accepts, what the networks require of a kernel, free addresses, and the node
of a container's writable layer and of the volumes with one copy. Each one lowers a capacity column.
`explain` uses the same filters to say which one excluded which node.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from controller.brain.scheduler.ledger import Ledger
from controller.brain.volumes import may_be_unreadable
from pyswarm_core.docker.isolation.security import needs_apparmor
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
    """The nodes that can have a volume: the one that has its only copy, or none if that is gone."""

    volume: str
    """Its name."""
    rows: BoolColumn
    host: str
    """Who has it; the node's id if it was removed; empty: the volume may be unreadable."""


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


def homes(state: State, template: TaskSpec, named: Callable[[str], Volume | None]) -> Homes:
    """Where the volumes of the template let its tasks run. `named` finds a volume."""
    table, found = state.node_table, []
    for name in template.volumes:
        volume = named(name)
        only = np.zeros(len(table.number), np.bool_)
        if volume is None and may_be_unreadable(state, name):
            found.append(Home(name, only, ""))
        elif volume is not None and volume.home:
            row = table.rows.get(volume.home)
            node = table.nodes[row] if row is not None else None
            only[row if row is not None else []] = True
            found.append(Home(name, only, node.description.hostname if node else volume.home))
    return tuple(found)


def capacity(ledger: Ledger, demand: Demand) -> IntColumn:
    """By row, how many of the tasks fit; 0 where a filter excludes the node."""
    placement = demand.template.placement
    room = np.where(ledger.satisfying(placement.constraints), ledger.free_tasks, 0)
    if demand.footprint.nano_cpus > 0:
        np.minimum(room, ledger.free_cpus // demand.footprint.nano_cpus, out=room)
    if demand.footprint.memory_bytes > 0:
        np.minimum(room, ledger.free_memory // demand.footprint.memory_bytes, out=room)
    for port in demand.footprint.ports:
        np.minimum(room, ~ledger.held(port), out=room)  # at most one of these tasks per node
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
    return np.maximum(room, 0, out=room)
