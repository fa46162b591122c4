"""Suggests changes that would let a pending task run. PURE.

Each remedy is about one missing thing, on the node that lacks least of it, with the command where
there is one.
"""

from collections.abc import Iterator
from copy import copy

import numpy as np

from controller.brain.scheduler.explain import cpus, size
from controller.brain.scheduler.filters import Demand, capacity, images_of
from controller.brain.scheduler.ledger import Ledger
from pyswarm_core.constraints import NODE_LABEL, parse
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.indexes.nodes import BoolColumn, IntColumn
from pyswarm_core.specs import Placement, TaskSpec
from pyswarm_core.states import KERNEL_WITH


def remedies(ledger: Ledger, demand: Demand, service: str) -> list[str]:
    """Sentences, cheapest remedy first, each sufficient alone; empty if no single one is."""
    found = [
        _resources(ledger, demand, service),
        _generic(ledger, demand),
        *(_label(ledger, demand, text) for text in demand.template.placement.constraints),
        _ports(ledger, demand, service),
        _max_replicas(ledger, demand, service),
        _tasks(ledger, demand),
        _kernel(ledger, demand),
        _layer(ledger, demand),
        _source(ledger, demand, service),
        _image(ledger, demand),
        _ready(ledger, demand),
        *_volumes(ledger, demand, service),
    ]
    return [text for text in found if text]


def _without(demand: Demand, **placement: object) -> Demand:
    old = demand.template.placement
    fields = {"constraints": old.constraints, "max_replicas": old.max_replicas, **placement}
    template = TaskSpec(
        container_spec=demand.template.container_spec,
        placement=Placement(**fields),  # type: ignore[arg-type]
    )
    return demand._replace(template=template)


def _hosts(ledger: Ledger, rows: BoolColumn) -> list[str]:
    """Hostnames of these rows in the order of the nodes' numbers."""
    chosen = np.flatnonzero(rows)
    ordered = chosen[np.argsort(ledger.table.number[chosen], kind="stable")].tolist()
    return [node.description.hostname for row in ordered if (node := ledger.table.nodes[row])]


def _resources(ledger: Ledger, demand: Demand, service: str) -> str:
    footprint = demand.footprint
    without = footprint._replace(nano_cpus=0, memory_bytes=0)
    otherwise = capacity(ledger, demand._replace(footprint=without)) > 0
    cpu, memory = footprint.nano_cpus, footprint.memory_bytes
    if not otherwise.any() or not (cpu or memory):
        return ""
    enough_cpu = otherwise & (ledger.free_cpus >= cpu)
    if enough_cpu.any():
        row = _most(ledger, enough_cpu, ledger.free_memory)
        free = int(ledger.free_memory[row])
        lower = f", or lower --reserve-memory of {service} to {size(free)}" if free > 0 else ""
        return f"free {size(memory - free)} of memory on {_host(ledger, row)}{lower}"
    row = _most(ledger, otherwise, ledger.free_cpus)
    free = int(ledger.free_cpus[row])
    lower = f", or lower --reserve-cpu of {service} to {cpus(free)}" if free > 0 else ""
    return f"free {cpus(cpu - free)} CPUs on {_host(ledger, row)}{lower}"


def _generic(ledger: Ledger, demand: Demand) -> str:
    """Of a kind of generic resources that no node has enough of."""
    for kind, count in demand.footprint.generic:
        others = tuple(one for one in demand.footprint.generic if one[0] != kind)
        without = demand.footprint._replace(generic=others)
        otherwise = capacity(ledger, demand._replace(footprint=without)) > 0
        free = ledger.free_generic(kind)
        if otherwise.any() and not (otherwise & (free >= count)).any():
            host = _host(ledger, _most(ledger, otherwise, free))
            flag = f"--node-generic-resource {kind}=NUMBER"
            return f"start the agent of {host} with {flag}, or remove tasks that reserve {kind}"
    return ""


def _host(ledger: Ledger, row: int) -> str:
    node = ledger.table.nodes[row]
    return node.description.hostname if node else ""


def _most(ledger: Ledger, rows: BoolColumn, column: IntColumn) -> int:
    candidates = np.flatnonzero(rows)
    order = np.lexsort((ledger.table.number[candidates], -column[candidates]))
    return int(candidates[order[0]])


def _label(ledger: Ledger, demand: Demand, text: str) -> str:
    others = tuple(one for one in demand.template.placement.constraints if one != text)
    hosts = _hosts(ledger, capacity(ledger, _without(demand, constraints=others)) > 0)
    try:
        constraint = parse(text)
    except InvalidArgument as error:
        return f"correct the constraint: {error}"
    if not hosts:
        return ""
    if not constraint.key.startswith(NODE_LABEL):
        return f"drop the constraint {text}: {hosts[0]} could take the task"
    label = constraint.key[len(NODE_LABEL) :]
    if constraint.equal:
        change = f"--label-add {label}={constraint.value}"
        return f"label a node: pyswarm node update {change} {hosts[0]}"
    return f"take the label off a node: pyswarm node update --label-rm {label} {hosts[0]}"


def _ports(ledger: Ledger, demand: Demand, service: str) -> str:
    without = demand.footprint._replace(ports=())
    hosts = _hosts(ledger, capacity(ledger, demand._replace(footprint=without)) > 0)
    words = ", ".join(map(str, demand.footprint.ports))
    if not words or not hosts:
        return ""
    return f"free host port {words} on {hosts[0]}, or publish another number for {service}"


def _max_replicas(ledger: Ledger, demand: Demand, service: str) -> str:
    cap = demand.template.placement.max_replicas
    if not cap or not (capacity(ledger, _without(demand, max_replicas=0)) > 0).any():
        return ""
    flag = f"--replicas-max-per-node {cap + 1}"
    return f"raise the maximum per node: pyswarm service update {flag} {service}"


def _tasks(ledger: Ledger, demand: Demand) -> str:
    full = ledger.free_tasks <= 0
    if not full.any():
        return ""
    roomier = copy(ledger)
    roomier.free_tasks = np.where(full, 1, ledger.free_tasks)
    hosts = _hosts(ledger, (capacity(roomier, demand) > 0) & full)
    if not hosts:
        return ""
    return f"remove tasks from {hosts[0]}, add a node, or raise --max-tasks of its agent"


def _kernel(ledger: Ledger, demand: Demand) -> str:
    otherwise = capacity(ledger, demand._replace(needs=())) > 0
    if not demand.needs or not otherwise.any():
        return ""
    row = _most(ledger, otherwise, ledger.free_memory)
    lacked = [KERNEL_WITH[what] for _, what in demand.needs if ledger.table.lacking(what)[row]]
    return f"give {_host(ledger, row)} a kernel with {' and '.join(lacked)}" if lacked else ""


def _layer(ledger: Ledger, demand: Demand) -> str:
    """Of a container without a layer yet; one that exists is on its node alone."""
    if demand.layer is None or demand.layer.host:
        return ""
    hosts = _hosts(ledger, capacity(ledger, demand._replace(layer=None)) > 0)
    return f"upgrade pyswarm on {hosts[0]}" if hosts else ""


def _volumes(ledger: Ledger, demand: Demand, service: str) -> Iterator[str]:
    """Of volumes that are moved, or whose node takes no tasks or was removed."""
    for home in demand.homes:
        if home.moving:
            yield f"wait for the move, or cancel it: pyswarm volume move --cancel {home.volume}"
        elif home.host and not (home.rows & ledger.table.ready).any():
            yield from without_host(home.volume, home.host, home.relied or service)
        elif home.host and not (home.rows & ledger.table.schedulable).any():
            yield f"move the data: pyswarm volume move {home.volume} --to NODE"


def without_host(volume: str, host: str, service: str) -> Iterator[str]:
    """What to do if the node with a volume's only copy was lost."""
    yield (
        f"restore the data from a backup on another node: pyswarm volume restore {volume} FILE"
        " --node NODE"
    )
    yield (
        f"if {host} never returns, give up its copy, and the tasks start elsewhere with an empty"
        f" one: pyswarm volume forget {volume} {host}"
    )
    yield (
        "to start elsewhere, with data of its own on each node: pyswarm service update"
        f" --volume-placement any {service}"
    )


def _source(ledger: Ledger, demand: Demand, service: str) -> str:
    """Of sources that a node lacks; for reports that are missing, nothing is to be done."""
    hosts = _hosts(ledger, capacity(ledger, demand._replace(sources=())) > 0)
    lacked = [one.path for one in demand.sources if one.lacking.any()]
    if not lacked or not hosts:
        return ""
    made = f"make {' and '.join(lacked)} on {hosts[0]}"
    return f"{made}, or mount {service}'s files with bind-create-src or from a volume"


def _image(ledger: Ledger, demand: Demand) -> str:
    """Of a disk without space for the task's image."""
    full = ledger.table.image_disk_full
    if not full.any():
        return ""
    roomier = copy(ledger)
    roomier.table = copy(ledger.table)
    roomier.table.image_disk_full = np.zeros_like(full)
    hosts = _hosts(ledger, (capacity(roomier, demand) > 0) & full)
    if not hosts:
        return ""
    return f"free space for images on {hosts[0]}: pyswarm system prune --all"


def _ready(ledger: Ledger, demand: Demand) -> str:
    table = ledger.table
    fits = table.satisfying_all(demand.template.placement.constraints) & ~table.schedulable
    fits &= ledger.free_cpus >= demand.footprint.nano_cpus
    fits &= ledger.free_memory >= demand.footprint.memory_bytes
    fits &= ledger.free_tasks > 0
    for kind, count in demand.footprint.generic:
        fits &= ledger.free_generic(kind) >= count
    for port in demand.footprint.ports:
        fits &= ~ledger.held(port)
    for _, capability in demand.needs:
        fits &= ~table.lacking(capability)
    if demand.layer is not None:
        fits &= demand.layer.rows
    for home in demand.homes:
        fits &= home.rows
    for source in demand.sources:
        fits &= ~(source.lacking | source.waiting)
    fits &= ~table.without_room_for(images_of(demand.template))
    if unable := _hosts(ledger, fits & table.ready & table.unable):
        return f"repair {unable[0]} (log: host.fitness)"
    paused = _hosts(ledger, fits & table.ready)
    if paused:
        return f"let a node take tasks again: pyswarm node update --availability active {paused[0]}"
    away = _hosts(ledger, fits & (table.number > 0))
    return f"restore {away[0]} to ready: it could take the task" if away else ""
