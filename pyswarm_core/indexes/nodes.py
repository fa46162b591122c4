"""Nodes as numpy columns, for bulk placement. PURE (deterministic, mutated only by `State`).

A node keeps its row while it exists; rows of removed nodes are reused. Columns are plain arrays so
that the scheduler can filter and rank ten thousand nodes in one expression. The result of a
constraint, and the value of a label, is a column too, computed at its first use and maintained
since.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from pyswarm_core.constraints import attribute
from pyswarm_core.docker.generic_resources import counted
from pyswarm_core.ids import WHOLE_HOST, NetworkId, NodeId
from pyswarm_core.images.disk import image_key
from pyswarm_core.indexes.constraints import ConstraintColumns
from pyswarm_core.indexes.generics import Counts, GenericColumns
from pyswarm_core.limits import (
    LAYERS_PROTOCOL,
    PAYLOADS_PROTOCOL,
    TEMPLATES_PROTOCOL,
    VOLUMES_PROTOCOL,
)
from pyswarm_core.objects import Node
from pyswarm_core.ports import HostPort, overlaps
from pyswarm_core.specs import Protocol
from pyswarm_core.states import Availability, Capability, NodeState
from pyswarm_core.volumes.limits import BINDS_PROTOCOL, MOUNT_KINDS_PROTOCOL

IntColumn = npt.NDArray[np.int64]
BoolColumn = npt.NDArray[np.bool_]

_ANY_NUMBER = 1 << 40
_CACHED_BRANCHES = 1024
"""Labels whose columns are kept; the oldest is dropped when there are more."""
_BRANCHES_PER_ROW = 4
"""Values kept per label and row: nodes may report any number of different ones."""

_COLUMNS = (
    "number",
    "schedulable",
    "unable",
    "ready",
    "gone",
    "draining",
    "nano_cpus",
    "memory_bytes",
    "reserved_cpus",
    "reserved_memory",
    "active_tasks",
    "max_tasks",
    "desired_tasks",
    "freed_at",
    "opened_at",
    "lacks",
    "protocol",
    "image_disk_full",
)


_CAPABILITIES = tuple(Capability)


class Branches:
    """A label as a column: nodes with the same value have the same code."""

    def __init__(self, rows: int) -> None:
        self.codes: IntColumn = np.zeros(rows, np.int64)
        self.values: list[str | None] = [None]
        """The value of each code; None, code 0, is the branch of the nodes that lack the label."""
        self._code_of: dict[str | None, int] = {None: 0}

    def put(self, row: int, value: str | None) -> None:
        """Set the value of the row's node."""
        code = self._code_of.get(value)
        if code is None:
            code = self._code_of[value] = len(self.values)
            self.values.append(value)
        self.codes[row] = code


class HeldPorts:
    """By row, how many tasks hold each port of their host.

    A port has a column per `host_ip` of its published ports, created with its first holder and
    dropped with the last.
    """

    def __init__(self) -> None:
        self._columns: dict[tuple[Protocol, int], dict[str, IntColumn]] = {}

    def count(self, rows: IntColumn, port: HostPort, sign: int, length: int) -> None:
        """Count one holder more, or less, on each of the rows; the table has `length`."""
        by_ip = self._columns.setdefault((port.protocol, port.port), {})
        column = by_ip.get(port.host_ip)
        if column is None or len(column) < length:
            column = by_ip[port.host_ip] = _extended(column, length)
        np.add.at(column, rows, sign)
        if sign < 0:
            self._drop_unheld((port.protocol, port.port))

    def held(self, port: HostPort, length: int) -> BoolColumn:
        """By row, whether a task holds a port that conflicts with this one."""
        rows = np.zeros(length, np.bool_)
        for host_ip, column in self._columns.get((port.protocol, port.port), {}).items():
            if overlaps(host_ip, port.host_ip):
                rows[: len(column)] |= column > 0
        return rows

    def forget_row(self, row: int) -> None:
        """Remove the ports of the row: its node was removed."""
        for key, by_ip in list(self._columns.items()):
            for column in by_ip.values():
                column[row : row + 1] = 0
            self._drop_unheld(key)

    def _drop_unheld(self, key: tuple[Protocol, int]) -> None:
        by_ip = {ip: column for ip, column in self._columns[key].items() if column.any()}
        if by_ip:
            self._columns[key] = by_ip
        else:
            del self._columns[key]


class NodeTable:
    """Rows of nodes. Columns may be longer than the rows in use; an unused row is never
    schedulable.
    """

    image_disk_full: BoolColumn = np.zeros(0, np.bool_)
    """Nodes that get only tasks whose images they have."""

    def __init__(self) -> None:
        self.ids: list[NodeId] = []
        """The node of each row; "" where it is free."""
        self.rows: dict[NodeId, int] = {}
        self.nodes: list[Node | None] = []
        """The node of each row; None where it is free."""
        self.attributes_version = self.version = 0
        """The first rises whenever a node is added, removed or changes in what a constraint may
        test, the second with every change of a node or of its tasks' resources.
        """
        self._held_ports, self._generics = HeldPorts(), GenericColumns()
        self._named, self._at = dict[str, dict[NodeId, None]](), dict[str, dict[NodeId, None]]()
        self._blocked: dict[NetworkId, dict[int, None]] = {}
        self._free: list[int] = []
        self._constraints = ConstraintColumns()
        self._branches: dict[str, Branches] = {}
        self.number: IntColumn = np.zeros(0, np.int64)
        self.schedulable: BoolColumn = np.zeros(0, np.bool_)
        """Ready, active and able: may get new tasks."""
        self.unable: BoolColumn = np.zeros(0, np.bool_)
        """Nodes whose agents report that they can start no task now."""
        self.ready: BoolColumn = np.zeros(0, np.bool_)
        self.gone: BoolColumn = np.zeros(0, np.bool_)
        """Down nodes: their tasks have to run elsewhere."""
        self.draining: BoolColumn = np.zeros(0, np.bool_)
        self.nano_cpus: IntColumn = np.zeros(0, np.int64)
        self.memory_bytes: IntColumn = np.zeros(0, np.int64)
        self.reserved_cpus: IntColumn = np.zeros(0, np.int64)
        self.reserved_memory: IntColumn = np.zeros(0, np.int64)
        self.active_tasks: IntColumn = np.zeros(0, np.int64)
        """Tasks that occupy the node."""
        self.max_tasks: IntColumn = np.zeros(0, np.int64)
        """Tasks that the node accepts; a very large number if it does not report one."""
        self.desired_tasks: IntColumn = np.zeros(0, np.int64)
        """Desired tasks of the node (also those that wait for its resources) that have not ended.
        """
        self.opened_at: IntColumn = np.zeros(0, np.int64)
        """The version at which the row accepted a task again after it had been full."""
        self.freed_at: IntColumn = np.zeros(0, np.int64)
        """The version at which resources of the row were last released; 0: never."""
        self.lacks: BoolColumn = np.zeros((0, len(_CAPABILITIES)), np.bool_)
        """By row and capability."""
        self.protocol: IntColumn = np.zeros(0, np.int64)
        """Of the nodes' agents."""

    @property
    def keeps_layers(self) -> BoolColumn:
        """Nodes whose agents keep the writable layers of containers."""
        return self.protocol >= LAYERS_PROTOCOL

    @property
    def mounts(self) -> BoolColumn:
        """Nodes whose agents mount volumes and directories of the host."""
        return self.protocol >= VOLUMES_PROTOCOL

    @property
    def mounts_every_kind(self) -> BoolColumn:
        """Nodes whose agents mount paths in volumes, and images."""
        return self.protocol >= MOUNT_KINDS_PROTOCOL

    @property
    def expands(self) -> BoolColumn:
        """Nodes whose agents expand the templates of specs."""
        return self.protocol >= TEMPLATES_PROTOCOL

    @property
    def confines(self) -> BoolColumn:
        """Nodes whose agents keep binds beneath the allowed paths, and report sources of binds."""
        return self.protocol >= BINDS_PROTOCOL

    @property
    def has_payloads(self) -> BoolColumn:
        """Nodes whose agents have secrets and configs."""
        return self.protocol >= PAYLOADS_PROTOCOL

    def lacking(self, capability: Capability) -> BoolColumn:
        """The rows whose kernels lack the capability. Do not write to it."""
        found: BoolColumn = self.lacks[:, _CAPABILITIES.index(capability)]
        return found

    def without_room_for(self, images: Iterable[str]) -> BoolColumn:
        """The rows whose disks are full and that lack one of the images."""
        rows = self.image_disk_full.copy()
        keys = [image_key(image) for image in images] if rows.any() else []
        for row in np.flatnonzero(rows).tolist():
            if (node := self.nodes[row]) is not None:
                rows[row] = not all(node.status.image_disk.has(key) for key in keys)
        return rows

    @property
    def free_cpus(self) -> IntColumn:
        """Unreserved CPUs by row, in billionths; negative when a node became smaller than its
        reservations.
        """
        return self.nano_cpus - self.reserved_cpus

    @property
    def free_memory(self) -> IntColumn:
        """Unreserved bytes by row."""
        return self.memory_bytes - self.reserved_memory

    @property
    def free_tasks(self) -> IntColumn:
        """Tasks that each row still accepts; negative when the node lowered its number."""
        return self.max_tasks - self.active_tasks

    def put(self, node: Node) -> int:
        """Add or update a node; return its row."""
        row = self.rows.get(node.id)
        if row is None:
            row = self._free.pop() if self._free else self._grow()
            self.ids[row] = node.id
            self.rows[node.id] = row
            self.reserved_cpus[row] = self.reserved_memory[row] = 0
            self.active_tasks[row] = self.desired_tasks[row] = 0
        self.version += 1
        old, self.nodes[row] = self.nodes[row], node
        _move(self._named, node.id, _names(old), _names(node))
        _move(self._at, node.id, _addresses(old), _addresses(node))
        self.number[row] = node.number
        ready = node.status.state is NodeState.READY
        self.ready[row] = ready
        self.gone[row] = node.status.state is NodeState.DOWN
        self.draining[row] = node.spec.availability is Availability.DRAIN
        self.unable[row] = WHOLE_HOST in _blocks(node)
        active = node.spec.availability is Availability.ACTIVE
        self.schedulable[row] = ready and active and not self.unable[row]
        self.nano_cpus[row] = node.description.resources.nano_cpus
        self.memory_bytes[row] = node.description.resources.memory_bytes
        self.max_tasks[row] = node.description.max_tasks or _ANY_NUMBER
        self.lacks[row] = [each in node.description.lacks for each in _CAPABILITIES]
        self.protocol[row] = node.description.spoken
        self.image_disk_full[row] = bool(node.status.image_disk.reason)
        self._generics.offer(row, _offered(old), _offered(node), len(self.number))
        self._block(row, old, node)
        if old is None or _attributes_differ(old, node):
            self._refresh(row, old, node)
        return row

    def hold(self, rows: IntColumn, ports: Iterable[HostPort], generic: Counts, sign: int) -> None:
        """Count one holder of these ports and resources more, or less, on each of the rows, which
        may repeat.
        """
        for port in ports:
            self._held_ports.count(rows, port, sign, len(self.number))
        self._generics.reserve(rows, generic, sign, len(self.number))

    def holding(self, port: HostPort) -> BoolColumn:
        """By row, whether a task holds a port of the host that conflicts with this one."""
        return self._held_ports.held(port, len(self.number))

    def free_generic(self, kind: str) -> IntColumn:
        """By row, how many resources of a kind that users define are not reserved."""
        return self._generics.free(kind, len(self.number))

    def remove(self, node_id: NodeId) -> None:
        """Free a node's row."""
        row = self.rows.pop(node_id)
        self.ids[row] = NodeId("")
        old, self.nodes[row] = self.nodes[row], None
        self._generics.offer(row, _offered(old), {}, len(self.number))
        self._generics.forget_row(row)
        self._block(row, old, None)
        _move(self._named, node_id, _names(old), ())
        _move(self._at, node_id, _addresses(old), ())
        for name in _COLUMNS:
            getattr(self, name)[row] = 0
        self._constraints.put(row, old, None)
        self._held_ports.forget_row(row)
        self.version += 1
        self.attributes_version += 1
        self._free.append(row)

    def named(self, hostname: str) -> Iterable[NodeId]:
        """The nodes of this hostname, in any case of its letters."""
        return self._named.get(hostname.lower(), ())

    def at(self, address: str) -> Iterable[NodeId]:
        """The nodes that have reported this address, of either IP version."""
        return self._at.get(address, ())

    def blocked(self, network_id: NetworkId) -> list[int]:
        """The rows whose hosts cannot carry the network (or any network at all)."""
        return sorted({**self._blocked.get(network_id, {}), **self._blocked.get(WHOLE_HOST, {})})

    def inability(self, row: int) -> str:
        """Why the row's host can start no task now, as its agent reported; empty if it can."""
        node = self.nodes[row]
        faults = node.status.faults if node else ()
        return next((f.reason for f in faults if f.blocks and f.network_id == WHOLE_HOST), "")

    def occupy(self, rows: IntColumn, nano_cpus: int, memory_bytes: int) -> None:
        """Count one more desired task with these resources on each row; rows may repeat."""
        self.version += 1
        np.add.at(self.desired_tasks, rows, 1)
        np.add.at(self.active_tasks, rows, 1)
        if nano_cpus:
            np.add.at(self.reserved_cpus, rows, nano_cpus)
        if memory_bytes:
            np.add.at(self.reserved_memory, rows, memory_bytes)

    def load(self, node_id: NodeId, desired: int, active: int, cpus: int, memory: int) -> None:
        """Add to the node's desired and active tasks and to its reserved resources."""
        row = self.rows.get(node_id)
        if row is None:
            return
        self.version += 1
        self.desired_tasks[row] += desired
        was_full = self.active_tasks[row] >= self.max_tasks[row]
        self.active_tasks[row] += active
        if was_full and self.active_tasks[row] < self.max_tasks[row]:
            self.opened_at[row] = self.version
        self.reserved_cpus[row] += cpus
        self.reserved_memory[row] += memory

    def free(self, node_id: NodeId) -> None:
        """Record that a task of the node released resources, or that the node got addresses."""
        row = self.rows.get(node_id)
        if row is not None:
            self.version += 1
            self.freed_at[row] = self.version

    def freed_since(self, version: int) -> IntColumn:
        """The rows on which a task ended after that version, the earliest first."""
        rows = np.flatnonzero(self.freed_at > version)
        ordered: IntColumn = rows[np.argsort(self.freed_at[rows])]
        return ordered

    def satisfying(self, constraint: str) -> BoolColumn:
        """The rows that satisfy the constraint; none if it cannot be parsed. Do not write to it."""
        return self._constraints.of(constraint)

    def satisfying_all(self, constraints: Iterable[str]) -> BoolColumn:
        """The rows that satisfy every one of the constraints."""
        rows = np.ones(len(self.number), np.bool_)
        for constraint in constraints:
            rows &= self.satisfying(constraint)
        return rows

    def branches(self, key: str) -> Branches:
        """The nodes' values of a label. Do not write to it."""
        found = self._branches.get(key)
        if found is None:
            if len(self._branches) >= _CACHED_BRANCHES:
                del self._branches[next(iter(self._branches))]
            found = self._branches[key] = Branches(len(self.number))
            for row, node in enumerate(self.nodes if self._constraints.has_key(key) else ()):
                if node is not None:
                    found.put(row, attribute(node, key))
        return found

    def _block(self, row: int, old: Node | None, new: Node | None) -> None:
        before, now = _blocks(old), _blocks(new)
        if before == now:
            return
        for network_id in before:
            rows = self._blocked[network_id]
            del rows[row]
            if not rows:
                del self._blocked[network_id]
        for network_id in now:
            self._blocked.setdefault(network_id, {})[row] = None

    def _refresh(self, row: int, old: Node | None, node: Node) -> None:
        self.attributes_version += 1
        self._constraints.put(row, old, node)
        for key, branches in list(self._branches.items()):
            branches.put(row, attribute(node, key))
            if len(branches.values) > _BRANCHES_PER_ROW * len(self.number):
                del self._branches[key]  # most of its values belong to no node any more

    def _grow(self) -> int:
        row = len(self.ids)
        if row == len(self.number):
            extra = max(64, row)
            for name in _COLUMNS:
                column = getattr(self, name)
                more = np.zeros((extra, *column.shape[1:]), column.dtype)
                setattr(self, name, np.concatenate([column, more]))
            self._constraints.resize(len(self.number))
            self._branches.clear()
        self.ids.append(NodeId(""))
        self.nodes.append(None)
        return row


def _names(node: Node | None) -> tuple[str, ...]:
    return (node.description.hostname.lower(),) if node else ()


def _offered(node: Node | None) -> dict[str, int]:
    return counted(node.description.resources.generic_resources) if node else {}


def _addresses(node: Node | None) -> tuple[str, ...]:
    return (node.status.addr, *node.status.addrs6) if node else ()


def _blocks(node: Node | None) -> tuple[NetworkId, ...]:
    """The networks that its host cannot carry."""
    faults = node.status.faults if node else ()
    return tuple(dict.fromkeys(fault.network_id for fault in faults if fault.blocks))


def _move(
    index: dict[str, dict[NodeId, None]],
    node_id: NodeId,
    before: tuple[str, ...],
    now: tuple[str, ...],
) -> None:
    """Update the index of nodes by hostname and address."""
    if before == now:
        return
    for word in before:
        if (holders := index.get(word)) is not None:
            holders.pop(node_id, None)
            if not holders:
                del index[word]
    for word in now:
        index.setdefault(word, {})[node_id] = None


def _attributes_differ(old: Node, new: Node) -> bool:
    return (
        old.spec.labels != new.spec.labels
        or old.spec.role != new.spec.role
        or old.description != new.description
        or old.status.addr != new.status.addr
    )


def _extended(column: IntColumn | None, length: int) -> IntColumn:
    longer = np.zeros(length, np.int64)
    if column is not None:
        longer[: len(column)] = column
    return longer
