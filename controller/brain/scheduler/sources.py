"""Which nodes have the sources of a task's binds. PURE (docs/decisions/0031-sources-of-binds.md).

A node that reported that it lacks a source gets no task. Of one whose report is missing, the tasks
wait for it for BIND_SOURCES_WAIT, once; then it is taken if no node that has the source can be: an
agent that is old or a file system that hangs never keeps a task waiting for ever, and the agent
looks again when the task starts. A container whose source no node has is placed, and its agent
rejects it with Docker's words, as `docker run` fails.
"""

import numpy as np

from controller.brain.scheduler.filters import Demand, Source
from pyswarm_core.clock import NEVER, Instant, after
from pyswarm_core.indexes.nodes import BoolColumn
from pyswarm_core.indexes.sources import Presence, needed
from pyswarm_core.objects import Service
from pyswarm_core.state import State
from pyswarm_core.volumes.limits import BIND_SOURCES_WAIT

HOSTS_NAMED = 3


def with_sources(demand: Demand, state: State, service: Service, now: Instant) -> Demand:
    """The demand, limited to the nodes that have the sources of its binds or may have them."""
    paths = needed(demand.template)
    if not paths:
        return demand
    candidates = _candidates(demand, state)
    found, doubtful = [], np.zeros(len(candidates), np.bool_)
    for path in paths:
        source, unknown = _source(path, state, service, candidates, now)
        if source is not None:
            found.append(source)
        doubtful |= unknown
    if doubtful.any():  # chosen last, as where the service keeps failing
        failing = demand.failing if demand.failing is not None else np.zeros_like(demand.on_node)
        demand = demand._replace(failing=np.maximum(failing, doubtful.astype(np.int64)))
    return demand._replace(sources=tuple(found))


def _candidates(demand: Demand, state: State) -> BoolColumn:
    """The nodes that could have a task by what does not change with load."""
    table = state.node_table
    rows = table.schedulable & table.satisfying_all(demand.template.placement.constraints)
    return rows & demand.layer.rows if demand.layer is not None else rows


def _source(
    path: str, state: State, service: Service, candidates: BoolColumn, now: Instant
) -> tuple[Source | None, BoolColumn]:
    """What the source excludes, and the nodes of which it is unknown whether they have it."""
    table, column = state.node_table, state.sources.column(path)
    lacking = column == Presence.ABSENT
    unknown = column == Presence.UNKNOWN
    waiting, until = np.zeros(len(column), np.bool_), NEVER
    if state.sources.is_watched(path):
        ends = _reports_until(candidates & unknown & table.confines, state)
        if ends and (until := after(service.updated_at, BIND_SOURCES_WAIT)) > now:
            # All wait: the nodes that report first would get all tasks.
            waiting = ~lacking
        else:
            own = {row: end for row, end in ends.items() if end > now}
            waiting[list(own)], until = True, min(own.values(), default=NEVER)
    doubtful = unknown | (column == Presence.UNCLEAR)
    if service.spec.mode.is_container and not (candidates & ~lacking).any():
        return None, doubtful
    if not lacking.any() and until == NEVER:
        return None, doubtful
    return Source(path, lacking, _others(path, state), waiting, until), doubtful


def _reports_until(rows: BoolColumn, state: State) -> dict[int, Instant]:
    """By row, when the wait for the first report of its node's session ends."""
    table = state.node_table
    return {
        row: after(node.status.since, BIND_SOURCES_WAIT)
        for row in np.flatnonzero(rows).tolist()
        if (node := table.nodes[row]) is not None
    }


def _others(path: str, state: State) -> str:
    """Which nodes have it, in the order of their numbers."""
    table = state.node_table
    rows = np.flatnonzero(state.sources.column(path) == Presence.PRESENT)
    if not len(rows):
        return f"no node has {path}"
    ordered = rows[np.argsort(table.number[rows], kind="stable")]
    hosts = [
        node.description.hostname
        for row in ordered[:HOSTS_NAMED].tolist()
        if (node := table.nodes[row]) is not None
    ]
    if more := len(rows) - len(hosts):
        return f"{', '.join(hosts)} and {more} more have it"
    return f"{', '.join(hosts)} {'has' if len(hosts) == 1 else 'have'} it"
