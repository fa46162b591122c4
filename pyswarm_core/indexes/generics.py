"""Resources that users define, as columns of the node table. PURE (mutable: only `NodeTable`
changes them).
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

IntColumn = npt.NDArray[np.int64]
Counts = tuple[tuple[str, int], ...]
"""How many of each kind."""


class GenericColumns:
    """By kind and row, how many a node offers and how many its tasks reserve. A kind has columns
    while a node offers some of it, or a task reserves some.
    """

    def __init__(self) -> None:
        self._offered: dict[str, IntColumn] = {}
        self._reserved: dict[str, IntColumn] = {}

    def offer(self, row: int, old: Mapping[str, int], new: Mapping[str, int], length: int) -> None:
        """The node of the row offers these numbers from now on; the table has `length` rows."""
        for kind in {**old, **new}:
            _add(self._offered, kind, np.array([row]), new.get(kind, 0) - old.get(kind, 0), length)

    def reserve(self, rows: IntColumn, counts: Counts, sign: int, length: int) -> None:
        """Count one more or less task with these reservations on each of the rows."""
        for kind, count in counts:
            _add(self._reserved, kind, rows, sign * count, length)

    def free(self, kind: str, length: int) -> IntColumn:
        """By row, how many are not reserved; negative when a node offers less than before."""
        return _whole(self._offered, kind, length) - _whole(self._reserved, kind, length)

    def forget_row(self, row: int) -> None:
        """Remove what the row's tasks reserve: its node was removed."""
        for kind, column in list(self._reserved.items()):
            if row < len(column):
                _add(self._reserved, kind, np.array([row]), -int(column[row]), len(column))


def _add(
    columns: dict[str, IntColumn], kind: str, rows: IntColumn, count: int, length: int
) -> None:
    column = columns.get(kind)
    if column is None or len(column) < length:
        longer = np.zeros(length, np.int64)
        if column is not None:
            longer[: len(column)] = column
        column = columns[kind] = longer
    np.add.at(column, rows, count)
    if count < 0 and not column.any():
        del columns[kind]


def _whole(columns: Mapping[str, IntColumn], kind: str, length: int) -> IntColumn:
    found = np.zeros(length, np.int64)
    column = columns.get(kind)
    if column is not None:
        found[: len(column)] = column
    return found
