"""What is free on the nodes while one decision places tasks. PURE.

Copies the columns it changes: the state index stays as it is until the decision is applied.
"""

import numpy as np

from pyswarm_core.nodetable import BoolColumn, IntColumn, NodeTable
from pyswarm_core.state import Footprint


class Ledger:
    """Free resources and numbers of tasks by row, after what this decision placed so far."""

    def __init__(self, table: NodeTable) -> None:
        self.table = table
        self.free_cpus: IntColumn = table.free_cpus
        self.free_memory: IntColumn = table.free_memory
        self.tasks: IntColumn = table.active_tasks.copy()

    def place(self, rows: IntColumn, footprint: Footprint) -> None:
        """One more task of this footprint on each of the rows (which may repeat)."""
        np.add.at(self.tasks, rows, 1)
        if footprint.nano_cpus:
            np.subtract.at(self.free_cpus, rows, footprint.nano_cpus)
        if footprint.memory_bytes:
            np.subtract.at(self.free_memory, rows, footprint.memory_bytes)

    def satisfying(self, constraints: tuple[str, ...]) -> BoolColumn:
        """Which schedulable rows satisfy all constraints."""
        return self.table.schedulable & self.table.satisfying_all(constraints)
