"""Suggests changes that would let a pending task run. PURE.

Each remedy is about one missing thing, on the node that lacks least of it, with the command where
there is one.
"""

from copy import copy

import numpy as np

from controller.brain.scheduler.explain import cpus, size
from controller.brain.scheduler.filters import Demand, capacity
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
        *(_label(ledger, demand, text) for text in demand.template.placement.constraints),
        _ports(ledger, demand, service),
        _max_replicas(ledger, demand, service),
        _tasks(ledger, demand),
        _kernel(ledger, demand),
        _layer(ledger, demand),
        _ready(ledger, demand),
        _volume(ledger, demand, service),
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


def _volume(ledger: Ledger, demand: Demand, service: str) -> str:
    """Of a volume whose node takes no tasks, or was removed."""
    for home in demand.homes:
        takes = bool((home.rows & ledger.table.schedulable).any())
        if home.host and not takes:
            again = f"pyswarm volume rm {home.volume}"
            return (
                f"if {home.host} never returns, give up the data: remove {service}, run {again},"
                f" and create {service} again"
            )
    return ""


def _ready(ledger: Ledger, demand: Demand) -> str:
    table = ledger.table
    fits = table.satisfying_all(demand.template.placement.constraints) & ~table.schedulable
    fits &= ledger.free_cpus >= demand.footprint.nano_cpus
    fits &= ledger.free_memory >= demand.footprint.memory_bytes
    fits &= ledger.free_tasks > 0
    for port in demand.footprint.ports:
        fits &= ~ledger.held(port)
    for _, capability in demand.needs:
        fits &= ~table.lacking(capability)
    if demand.layer is not None:
        fits &= demand.layer.rows
    for home in demand.homes:
        fits &= home.rows
    if unable := _hosts(ledger, fits & table.ready & table.unable):
        return f"repair {unable[0]} (log: host.fitness)"
    paused = _hosts(ledger, fits & table.ready)
    if paused:
        return f"let a node take tasks again: pyswarm node update --availability active {paused[0]}"
    away = _hosts(ledger, fits & (table.number > 0))
    return f"restore {away[0]} to ready: it could take the task" if away else ""
