"""The result of each constraint for every node, as numpy columns. PURE (deterministic, mutated only
by `NodeTable`).

Nodes are indexed by their values under each key, so that the column of a new constraint is computed
without examining every node.
"""

import numpy as np
import numpy.typing as npt

from pyswarm_core.constraints import IP, Constraint, address_of, attributes, network_of, parse
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.objects import Node

BoolColumn = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint64]

CACHED_COLUMNS = 1024
"""Columns that are kept; the oldest is dropped when there are more."""
_LOW = (1 << 64) - 1


class ConstraintColumns:
    """A column per constraint, computed at its first use and maintained since."""

    def __init__(self) -> None:
        self._used: BoolColumn = np.zeros(0, np.bool_)
        self._ip_version: Words = np.zeros(0, np.uint64)
        """4 or 6; 0 where the node's address is unknown."""
        self._ip_high: Words = np.zeros(0, np.uint64)
        """The upper 64 bits of the address."""
        self._ip_low: Words = np.zeros(0, np.uint64)
        self._holders: dict[str, dict[str, set[int]]] = {}
        """By key and casefolded value: the rows of the nodes with that value."""
        self._columns: dict[str, BoolColumn] = {}
        self._asking: dict[tuple[str, str], dict[str, bool]] = {}
        """By key and casefolded value: the constraints among the columns, and whether each asks for
        equality. Those on addresses are listed together, without a value.
        """

    def of(self, constraint: str) -> BoolColumn:
        """Which rows satisfy the constraint; none if it cannot be parsed. Do not write to it."""
        column = self._columns.get(constraint)
        if column is None:
            if len(self._columns) >= CACHED_COLUMNS:
                self._forget(next(iter(self._columns)))
            column = self._columns[constraint] = self._made(constraint)
        return column

    def has_key(self, key: str) -> bool:
        """Whether a node has anything under the key."""
        return key in self._holders

    def put(self, row: int, old: Node | None, new: Node | None) -> None:
        """The row's node came, changed or went."""
        if old is None or new is None:
            self._used[row] = new is not None
            for asking in self._asking.values():
                for constraint, equal in asking.items():
                    self._columns[constraint][row] = new is not None and not equal
        before, now = _folded(old), _folded(new)
        for key, value in before - now:
            holders = self._holders[key]
            holders[value].remove(row)
            if not holders[value]:
                del holders[value]
            if not holders:
                del self._holders[key]
            if new is not None:
                self._mark(row, key, value, holds=False)
        for key, value in now - before:
            holders = self._holders.setdefault(key, {})
            if value in holders:
                holders[value].add(row)
            else:
                holders[value] = {row}
            self._mark(row, key, value, holds=True)
        self._put_address(row, old, new)

    def resize(self, length: int) -> None:
        """The table has so many rows from now on: at least as many as before."""
        more = length - len(self._used)
        self._used = np.pad(self._used, (0, more))
        self._ip_version = np.pad(self._ip_version, (0, more))
        self._ip_high = np.pad(self._ip_high, (0, more))
        self._ip_low = np.pad(self._ip_low, (0, more))
        self._columns.clear()
        self._asking.clear()

    def _made(self, text: str) -> BoolColumn:
        constraint = _parsed(text)
        if constraint is None:
            return np.zeros(len(self._used), np.bool_)
        self._asking.setdefault(_asked(constraint), {})[text] = constraint.equal
        if constraint.key == IP:
            equal = self._within(constraint.value)
        else:
            equal = np.zeros(len(self._used), np.bool_)
            rows = self._holders.get(constraint.key, {}).get(constraint.value.casefold(), ())
            equal[np.fromiter(rows, np.int64, len(rows))] = True
        return equal if constraint.equal else self._used & ~equal

    def _within(self, value: str) -> BoolColumn:
        network = network_of(value)
        if network is None:
            return np.zeros(len(self._used), np.bool_)
        first, mask = int(network.network_address), int(network.netmask)
        within: BoolColumn = self._ip_version == network.version
        within &= (self._ip_high & np.uint64(mask >> 64)) == np.uint64(first >> 64)
        within &= (self._ip_low & np.uint64(mask & _LOW)) == np.uint64(first & _LOW)
        return within

    def _mark(self, row: int, key: str, value: str, *, holds: bool) -> None:
        if (key, value) in self._asking:
            for constraint, equal in self._asking[key, value].items():
                self._columns[constraint][row] = equal is holds

    def _put_address(self, row: int, old: Node | None, new: Node | None) -> None:
        if old is not None and new is not None and old.status.addr == new.status.addr:
            return
        address = address_of(new.status.addr) if new is not None else None
        number = int(address) if address is not None else 0
        self._ip_version[row] = address.version if address is not None else 0
        self._ip_high[row], self._ip_low[row] = number >> 64, number & _LOW
        for constraint in list(self._asking.get((IP, ""), {})):
            self._forget(constraint)

    def _forget(self, constraint: str) -> None:
        del self._columns[constraint]
        parsed = _parsed(constraint)
        if parsed is not None:
            asking = self._asking[_asked(parsed)]
            del asking[constraint]
            if not asking:
                del self._asking[_asked(parsed)]


def _folded(node: Node | None) -> set[tuple[str, str]]:
    if node is None:
        return set()
    return {(key, value.casefold()) for key, value in attributes(node)}


def _asked(constraint: Constraint) -> tuple[str, str]:
    return constraint.key, "" if constraint.key == IP else constraint.value.casefold()


def _parsed(constraint: str) -> Constraint | None:
    try:
        return parse(constraint)
    except InvalidArgument:
        return None
