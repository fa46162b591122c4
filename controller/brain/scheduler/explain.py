"""Why no node can take a task, in numbers. PURE.

Runs the filters in order; each node counts once, for the first filter that excludes it. The text is
the task's message in `service ps`; it changes only when its numbers do.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from controller.brain.scheduler.filters import Demand, Home, KeptLayer, images_of
from controller.brain.scheduler.ledger import Ledger
from pyswarm_core.indexes.nodes import BoolColumn, IntColumn
from pyswarm_core.limits import LAYERS_PROTOCOL
from pyswarm_core.states import Availability, Capability

_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_WORDS = {
    Capability.ESP: "ESP",
    Capability.IPV6: "IPv6",
    Capability.USERNS: "user namespaces",
    Capability.APPARMOR: "AppArmor",
}


class Exclusion(NamedTuple):
    """The nodes that one filter excludes."""

    filter: str
    """layer, volume, ready, able, availability, tasks, cpu, memory, generic, constraint, port, max
    replicas, bind, look, image, kernel, or what a network lacks.
    """
    rows: BoolColumn
    """Those that it excludes and no filter before it did."""
    text: str
    """Follows "N of M nodes"."""
    nearest: str = ""
    """The host that lacks least, if the filter is about an amount."""


def exclusions(ledger: Ledger, demand: Demand) -> list[Exclusion]:
    """Which filter excludes which nodes, in the order of the filters."""
    left = in_use(ledger)
    found = []
    for name, excluded, describe in _filters(ledger, demand):
        rows = left & excluded
        if rows.any():
            text, nearest = describe(np.flatnonzero(rows))
            found.append(Exclusion(name, rows, text, nearest))
        left = left & ~excluded
    return found


def message(ledger: Ledger, demand: Demand) -> str:
    """One line for people; empty if some node could take a task."""
    found = exclusions(ledger, demand)
    total = len(ledger.table.rows)
    if not total:
        return "no suitable node: no node has joined"
    if sum(int(one.rows.sum()) for one in found) < total:
        return ""
    if demand.layer is not None and demand.layer.host:
        return _on_host(ledger, demand.layer, found)
    if bound := tuple(one for one in demand.homes if not one.is_free):
        return _at_home(ledger, bound, found)
    parts = [f"{int(one.rows.sum())} of {total} nodes {one.text}" for one in found]
    return f"no suitable node: {'; '.join(parts)}"


def _on_host(ledger: Ledger, layer: KeptLayer, found: list[Exclusion]) -> str:
    """Why a container cannot run on the node that has its writable layer."""
    kept = f"container {layer.container} keeps its writable layer on {layer.host}"
    if not layer.rows.any():
        return f"{kept}, which cannot be read from the store or whose agent keeps no layers"
    return _on_row(ledger, kept, int(np.flatnonzero(layer.rows)[0]), found)


def _at_home(ledger: Ledger, homes: tuple[Home, ...], found: list[Exclusion]) -> str:
    """Why a task cannot run on the node that has the only copy of its volumes."""
    relied = next((f"; service {one.relied} relies on it" for one in homes if one.relied), "")
    for home in homes:
        if home.held:
            return f"no suitable node: {home.held}"
        if not home.host:
            return f"volume {home.volume} may be one that cannot be read from the store"
        if not home.rows.any():
            kept = f"volume {home.volume} has its only copy on {home.host}, which was removed"
            return kept + relied
    first = homes[0]
    for other in homes[1:]:
        if (other.rows != first.rows).any():
            both = f"volume {first.volume} is on {first.host} and volume {other.volume}"
            return f"no suitable node: {both} is on {other.host}"
    kept = f"volume {first.volume} has its only copy on {first.host}"
    return _on_row(ledger, kept, int(np.flatnonzero(first.rows)[0]), found) + relied


def _on_row(ledger: Ledger, kept: str, row: int, found: list[Exclusion]) -> str:
    """Why the only node that has what a task needs cannot take it."""
    node = ledger.table.nodes[row]
    by = next((one for one in found if one.rows[row]), None)
    if node is None or by is None:
        return kept
    if by.filter == "ready":
        return f"{kept}, which is {node.status.state}"
    if by.filter == "availability":
        drained = node.spec.availability is Availability.DRAIN
        return f"{kept}, which is {'drained' if drained else 'paused'}"
    return f"{kept}: 1 of 1 nodes {by.text}"


def messages_by_row(ledger: Ledger, demand: Demand) -> Callable[[int], str]:
    """The same for tasks that are bound to one node each: why that row is excluded."""
    found = exclusions(ledger, demand)
    described = {one.filter: describe for one, describe in _described(ledger, demand, found)}

    def of_row(row: int) -> str:
        for one in found:
            if one.rows[row]:
                text, _ = described[one.filter](np.array([row]))
                return f"its node cannot take it: 1 of 1 nodes {text}"
        return ""

    return of_row


_Describe = Callable[[IntColumn], tuple[str, str]]


def _described(
    ledger: Ledger, demand: Demand, found: list[Exclusion]
) -> Iterator[tuple[Exclusion, _Describe]]:
    by_name = {name: describe for name, _, describe in _filters(ledger, demand)}
    return ((one, by_name[one.filter]) for one in found)


def in_use(ledger: Ledger) -> BoolColumn:
    """The rows in use by nodes."""
    rows = np.zeros(len(ledger.table.number), np.bool_)
    rows[list(ledger.table.rows.values())] = True
    return rows


def size(count: int) -> str:
    """Bytes for people: `1.2 GiB`."""
    for unit, word in _UNITS:
        if count >= unit:
            return f"{count / unit:.1f} {word}"
    return f"{max(count, 0)} B"


def cpus(nano: int) -> str:
    """Billionths of CPU for people: `1.5`."""
    return f"{max(nano, 0) / 1e9:.2f}".rstrip("0").rstrip(".")


def _filters(ledger: Ledger, demand: Demand) -> Iterator[tuple[str, BoolColumn, _Describe]]:
    table = ledger.table
    yield from _filters_of_data(demand)
    yield "ready", ~table.ready, _says("are not ready")
    yield "able", table.unable, _unable(ledger)
    yield "availability", ~table.schedulable, _says("are paused or drained")
    yield "tasks", ledger.free_tasks <= 0, _full(ledger)
    yield from _filters_of_resources(ledger, demand)
    for constraint in demand.template.placement.constraints:
        text = f"do not satisfy {constraint}"
        yield f"constraint {constraint}", ~table.satisfying(constraint), _says(text)
    for port in demand.footprint.ports:
        yield f"port {port}", ledger.held(port), _says(f"have host port {port} in use")
    cap = demand.template.placement.max_replicas
    if cap > 0:
        text = f"already run {cap} of its tasks, the maximum per node"
        yield "max replicas", demand.on_node >= cap, _says(text)
    for source in demand.sources:
        text = f"lack the bind source {source.path}: {source.others}"
        yield f"bind {source.path}", source.lacking, _says(text)
        text = f"wait for nodes to report whether they have the bind source {source.path}"
        yield f"look {source.path}", source.waiting, _says(text)
    yield from _filters_of_images(ledger, demand)
    for name, capability in demand.needs:
        text = f"have no {_WORDS[capability]} in the kernel, which {name} needs"
        yield f"kernel {capability} {name}", table.lacking(capability), _says(text)
    for text, room in demand.rooms:
        yield text, room <= 0, _says(text)


def _filters_of_resources(
    ledger: Ledger, demand: Demand
) -> Iterator[tuple[str, BoolColumn, _Describe]]:
    """The nodes that lack something that the task reserves."""
    needed = demand.footprint.nano_cpus
    if needed > 0:
        short = _short(ledger, ledger.free_cpus, f"lack CPU (needs {cpus(needed)}", cpus)
        yield "cpu", ledger.free_cpus < needed, short
    needed = demand.footprint.memory_bytes
    if needed > 0:
        short = _short(ledger, ledger.free_memory, f"lack memory (needs {size(needed)}", size)
        yield "memory", ledger.free_memory < needed, short
    for kind, count in demand.footprint.generic:
        free = ledger.free_generic(kind)
        short = _short(ledger, free, f"lack {kind} (needs {count}", str)
        yield f"generic {kind}", free < count, short


def _filters_of_data(demand: Demand) -> Iterator[tuple[str, BoolColumn, _Describe]]:
    """What leaves the nodes with the data of a task: a container's layer, volumes."""
    if (layer := demand.layer) is not None:
        text = f"do not have its writable layer, which is on {layer.host}"
        if not layer.host:
            text = f"have an agent that keeps no layers of containers (protocol {LAYERS_PROTOCOL})"
        yield "layer", ~layer.rows, _says(text)
    for home in demand.homes:
        text = f"do not have volume {home.volume}, which is on {home.host or 'an unknown node'}"
        if home.held:
            text = f"cannot have it now: {home.held}"
        elif home.is_free:
            text = f"have yet to delete an old copy of volume {home.volume}"
        yield f"volume {home.volume}", ~home.rows, _says(text)


def _filters_of_images(
    ledger: Ledger, demand: Demand
) -> Iterator[tuple[str, BoolColumn, _Describe]]:
    if ledger.table.image_disk_full.any():
        yield "image", ledger.table.without_room_for(images_of(demand.template)), _no_room(ledger)


def _says(text: str) -> _Describe:
    return lambda rows: (text, "")


def _unable(ledger: Ledger) -> _Describe:
    def describe(rows: IntColumn) -> tuple[str, str]:
        row = int(rows[0])
        node = ledger.table.nodes[row]
        host = node.description.hostname if node else ""
        return f"can start no task now ({host}: {ledger.table.inability(row)})", host

    return describe


def _no_room(ledger: Ledger) -> _Describe:
    def describe(rows: IntColumn) -> tuple[str, str]:
        node = ledger.table.nodes[int(rows[0])]
        host, reason = "", ""
        if node is not None:
            host, reason = node.description.hostname, node.status.image_disk.reason
        return f"do not have its image and have no space for it ({host}: {reason})", ""

    return describe


def _full(ledger: Ledger) -> _Describe:
    def describe(rows: IntColumn) -> tuple[str, str]:
        accepted = ledger.table.max_tasks[rows]
        least, most = int(accepted.min()), int(accepted.max())
        number = f"{least}" if least == most else f"{least} to {most}"
        return f"have as many tasks as they accept ({number})", ""

    return describe


def _short(ledger: Ledger, free: IntColumn, text: str, word: Callable[[int], str]) -> _Describe:
    def describe(rows: IntColumn) -> tuple[str, str]:
        order = np.lexsort((ledger.table.number[rows], -free[rows]))
        row = int(rows[order[0]])
        node = ledger.table.nodes[row]
        host = node.description.hostname if node else ""
        return f"{text}, most free is {word(int(free[row]))} on {host})", host

    return describe
