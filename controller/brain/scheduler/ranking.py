"""Which of the nodes that could take a task get it. PURE.

Swarm's spread: each task goes to the node with fewest tasks of its service, then with fewest tasks
in all, then with the lowest number; nodes where the service keeps failing come last. Preferences
first divide tasks evenly over the values of a label, level by level. All tasks are placed at once,
by a binary search for the level that nodes are filled up to (water-filling); the result is the same
as one task after the other.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from controller.brain.scheduler.filters import Demand
from controller.brain.scheduler.ledger import Ledger
from pyswarm_core.constraints import parse_preference
from pyswarm_core.indexes.nodes import IntColumn

_BITS = 20
"""Bits of a node's level, total or number: enough for REPLICAS_MAX, NODE_TASKS_LIMIT and the first
million hosts.
"""
_MASK = (1 << _BITS) - 1


class _Nodes(NamedTuple):
    """Nodes as parallel columns."""

    rows: IntColumn
    room: IntColumn
    level: IntColumn
    total: IntColumn
    number: IntColumn
    failing: IntColumn

    def only(self, chosen: IntColumn) -> "_Nodes":
        return _Nodes(*(column[chosen] for column in self))


def spread(ledger: Ledger, demand: Demand, room: IntColumn, count: int) -> IntColumn:
    """The rows of up to `count` tasks, in the order in which they would be chosen one by one.

    Fewer than `count` when there is no more room. The ledger is not changed.
    """
    rows = np.flatnonzero(room > 0)
    failing = demand.failing if demand.failing is not None else np.zeros_like(room)
    nodes = _Nodes(
        rows,
        np.minimum(room[rows], count),
        demand.on_node[rows],
        ledger.tasks[rows],
        ledger.table.number[rows],
        failing[rows],
    )
    keys = [parse_preference(text) for text in demand.template.placement.preferences]
    if not keys and count < len(rows):
        nodes = nodes.only(_lowest(nodes, count))
    given = _over_branches(ledger, nodes, keys, count)
    return _in_order(nodes, given)


def _lowest(nodes: _Nodes, count: int) -> IntColumn:
    """The `count` nodes that come first. No other node gets one of `count` tasks: until all are
    given, one of these has none yet and comes first.
    """
    key = nodes.failing
    for column in (nodes.level, nodes.total, nodes.number):
        key = key << _BITS | column & _MASK
    return np.argpartition(key, count)[:count]


def _over_branches(ledger: Ledger, nodes: _Nodes, keys: Sequence[str], count: int) -> IntColumn:
    """How many tasks each of the nodes gets."""
    if not keys:
        return _over_nodes(nodes, count)
    branches = ledger.table.branches(keys[0])
    codes, member = np.unique(branches.codes[nodes.rows], return_inverse=True)
    values = [branches.values[code] for code in codes.tolist()]
    # None, the branch of the nodes without the label, comes before every value.
    by_value = sorted(range(len(values)), key=lambda i: (values[i] is not None, values[i] or ""))
    rank = np.empty(len(codes), np.int64)
    rank[by_value] = np.arange(len(codes))
    room = np.bincount(member, nodes.room, len(codes)).astype(np.int64)
    level = np.bincount(member, nodes.level, len(codes)).astype(np.int64)
    shares = _pour(level, np.minimum(room, count), (rank,), count)
    given = np.zeros(len(nodes.rows), np.int64)
    for branch, share in enumerate(shares.tolist()):
        if share:
            inside = np.flatnonzero(member == branch)
            given[inside] = _over_branches(ledger, nodes.only(inside), keys[1:], share)
    return given


def _over_nodes(nodes: _Nodes, count: int) -> IntColumn:
    if not nodes.failing.any():
        return _pour(nodes.level, nodes.room, (nodes.total, nodes.number), count)
    given = np.zeros(len(nodes.rows), np.int64)
    for tier in (nodes.failing == 0, nodes.failing != 0):
        inside = np.flatnonzero(tier)
        part = nodes.only(inside)
        given[inside] = _pour(part.level, part.room, (part.total, part.number), count)
        count -= int(given[inside].sum())
    return given


def _pour(level: IntColumn, room: IntColumn, order: tuple[IntColumn, ...], count: int) -> IntColumn:
    """Give `count` units, each to the lowest level that has room; ties by `order`.

    The first of two or more columns in `order` rises with every unit given, like the level.
    """
    if count <= 0 or not len(level):
        return np.zeros(len(level), np.int64)
    if int(room.sum()) <= count:
        return room.copy()
    low, high = int(level.min()), int(level.max()) + count
    # Invariant: raising all nodes to `low` takes at most `count`, to `high + 1` more.
    while low < high:
        middle = (low + high + 1) // 2
        if int(np.clip(middle - level, 0, room).sum()) <= count:
            low = middle
        else:
            high = middle - 1
    given = np.clip(low - level, 0, room)
    left = count - int(given.sum())
    if left:
        ready = np.flatnonzero((level + given == low) & (given < room))
        keys = [column[ready] for column in order]
        if len(keys) > 1:
            keys[0] = keys[0] + given[ready]
        given[ready[np.lexsort(tuple(reversed(keys)))[:left]]] += 1
    return given


def _in_order(nodes: _Nodes, given: IntColumn) -> IntColumn:
    """Each row as often as it was given, as if chosen one by one: lowest level first."""
    which = np.repeat(np.arange(len(given)), given)
    nth = np.arange(len(which)) - np.repeat(np.cumsum(given) - given, given)
    keys = (
        nodes.number[which],
        nodes.total[which] + nth,
        nodes.level[which] + nth,
        nodes.failing[which],
    )
    ordered: IntColumn = nodes.rows[which[np.lexsort(keys)]]
    return ordered
