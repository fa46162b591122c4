"""Nodes as numpy columns: what bulk placement reads. PURE (deterministic, mutated only by `State`).

A node keeps its row while it exists; rows of removed nodes are reused. Columns are plain arrays so that the scheduler
can filter and rank ten thousand nodes in one expression.
"""

import numpy as np
import numpy.typing as npt

from pyswarm_core.ids import NodeId
from pyswarm_core.objects import Node
from pyswarm_core.states import Availability, NodeState

IntColumn = npt.NDArray[np.int64]
BoolColumn = npt.NDArray[np.bool_]


class NodeTable:
    """Rows of nodes. Columns may be longer than the rows in use; an unused row is never schedulable."""

    def __init__(self) -> None:
        self.ids: list[NodeId] = []
        """The node of each row; "" where it is free."""
        self.rows: dict[NodeId, int] = {}
        self._free: list[int] = []
        self.number: IntColumn = np.zeros(0, np.int64)
        self.schedulable: BoolColumn = np.zeros(0, np.bool_)
        """Ready and active: may get new tasks."""
        self.nano_cpus: IntColumn = np.zeros(0, np.int64)
        self.memory_bytes: IntColumn = np.zeros(0, np.int64)
        self.reserved_cpus: IntColumn = np.zeros(0, np.int64)
        self.reserved_memory: IntColumn = np.zeros(0, np.int64)
        self.active_tasks: IntColumn = np.zeros(0, np.int64)
        """Tasks that occupy the node."""

    @property
    def free_cpus(self) -> IntColumn:
        """Unreserved CPUs by row, in billionths; negative when a node shrank under its tasks."""
        return self.nano_cpus - self.reserved_cpus

    @property
    def free_memory(self) -> IntColumn:
        """Unreserved bytes by row."""
        return self.memory_bytes - self.reserved_memory

    def put(self, node: Node) -> int:
        """Add or refresh a node; return its row."""
        row = self.rows.get(node.id)
        if row is None:
            row = self._free.pop() if self._free else self._grow()
            self.ids[row] = node.id
            self.rows[node.id] = row
            self.reserved_cpus[row] = self.reserved_memory[row] = self.active_tasks[row] = 0
        self.number[row] = node.number
        self.schedulable[row] = (
            node.status.state is NodeState.READY and node.spec.availability is Availability.ACTIVE
        )
        self.nano_cpus[row] = node.description.resources.nano_cpus
        self.memory_bytes[row] = node.description.resources.memory_bytes
        return row

    def remove(self, node_id: NodeId) -> None:
        """Free a node's row. Its tasks must have been removed first."""
        row = self.rows.pop(node_id)
        self.ids[row] = NodeId("")
        self.schedulable[row] = False
        self.nano_cpus[row] = self.memory_bytes[row] = self.number[row] = 0
        self._free.append(row)

    def _grow(self) -> int:
        row = len(self.ids)
        if row == len(self.number):
            extra = max(64, row)
            for name in (
                "number",
                "schedulable",
                "nano_cpus",
                "memory_bytes",
                "reserved_cpus",
                "reserved_memory",
                "active_tasks",
            ):
                column = getattr(self, name)
                setattr(self, name, np.concatenate([column, np.zeros(extra, column.dtype)]))
        self.ids.append(NodeId(""))
        return row
