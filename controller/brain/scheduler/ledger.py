"""What is free on the nodes while one decision places tasks. PURE.

It changes copies of the columns: the state index changes when the decision is applied.
"""

import numpy as np

from pyswarm_core.indexes.generics import GenericColumns
from pyswarm_core.indexes.nodes import BoolColumn, IntColumn, NodeTable
from pyswarm_core.indexes.tasks import Footprint
from pyswarm_core.ports import HostPort, overlaps


class Ledger:
    """Free resources and numbers of tasks by row, after what this decision placed so far."""

    def __init__(self, table: NodeTable) -> None:
        self.table = table
        self.free_cpus: IntColumn = table.free_cpus
        self.free_memory: IntColumn = table.free_memory
        self.tasks: IntColumn = table.active_tasks.copy()
        self.free_tasks: IntColumn = table.free_tasks
        self.version = 0
        """Rises with every placement."""
        self._held: dict[HostPort, BoolColumn] = {}
        self._reserved = GenericColumns()

    def place(self, rows: IntColumn, footprint: Footprint) -> None:
        """One more task of this footprint on each of the rows (which may repeat)."""
        if not len(rows):
            return
        self.version += 1
        np.add.at(self.tasks, rows, 1)
        np.subtract.at(self.free_tasks, rows, 1)
        if footprint.nano_cpus:
            np.subtract.at(self.free_cpus, rows, footprint.nano_cpus)
        if footprint.memory_bytes:
            np.subtract.at(self.free_memory, rows, footprint.memory_bytes)
        for port in footprint.ports:
            held = self._held.get(port)
            if held is None:
                held = self._held[port] = np.zeros(len(self.table.number), np.bool_)
            held[rows] = True
        self._reserved.reserve(rows, footprint.generic, 1, len(self.table.number))

    def free_generic(self, kind: str) -> IntColumn:
        """By row, how many resources of a kind that users define are left."""
        return self.table.free_generic(kind) + self._reserved.free(kind, len(self.table.number))

    def held(self, port: HostPort) -> BoolColumn:
        """By row, whether a task holds a host port that conflicts with this one."""
        rows = self.table.holding(port)
        for other, held in self._held.items():
            if (other.protocol, other.port) == (port.protocol, port.port) and overlaps(
                other.host_ip, port.host_ip
            ):
                rows |= held
        return rows

    def satisfying(self, constraints: tuple[str, ...]) -> BoolColumn:
        """Which schedulable rows satisfy all constraints."""
        return self.table.schedulable & self.table.satisfying_all(constraints)
