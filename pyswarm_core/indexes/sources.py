"""Sources of binds: which services have them, and which nodes. PURE (mutable: only `State` and the
leader's loop change it).

What nodes have is observed and not stored: agents report it in every session. The services' sources
are watched, as many as the limits allow; of others it stays unknown which nodes have them.
"""

from collections.abc import Iterable, Mapping
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.indexes.nodes import NodeTable
from pyswarm_core.objects import Service
from pyswarm_core.specs import TaskSpec
from pyswarm_core.templates.context import is_template
from pyswarm_core.volumes.limits import BIND_SOURCES_BYTES, BIND_SOURCES_MAX
from pyswarm_core.volumes.mounts import MountType

PresenceColumn = npt.NDArray[np.int8]


class Presence(IntEnum):
    """What is known of a source on a node."""

    UNKNOWN = 0
    """Its agent has not reported it."""
    PRESENT = 1
    ABSENT = 2
    UNCLEAR = 3
    """Its agent looked, and the file system did not answer in time."""


def needed(template: TaskSpec) -> tuple[str, ...]:
    """The sources that a node must have, each once: those that the agent does not make, and that
    are the same for all tasks.
    """
    return tuple(
        dict.fromkeys(
            mount.source
            for mount in template.container_spec.mounts
            if mount.type is MountType.BIND
            and not is_template(mount.source)
            and not (mount.bind_options and mount.bind_options.create_mountpoint)
        )
    )


class BindSources:
    """The sources of all services' present specs."""

    def __init__(self, table: NodeTable) -> None:
        self.version = 0
        """Rises when other sources are watched."""
        self._table = table
        self._users: dict[str, dict[ServiceId, None]] = {}
        self._watched: dict[str, dict[NodeId, Presence]] = {}
        self._left_out: dict[str, None] = {}
        self._bytes = 0
        self._columns: dict[str, tuple[int, PresenceColumn]] = {}
        """By source, the version of the table's attributes at which the column was made."""

    @property
    def watched(self) -> Iterable[str]:
        """The sources that agents report."""
        return self._watched.keys()

    def is_watched(self, source: str) -> bool:
        """Whether agents report it."""
        return source in self._watched

    def put(self, service_id: ServiceId, old: Service | None, new: Service | None) -> None:
        """The service was added, changed or removed. Its cost follows its mounts."""
        before = needed(old.spec.task_template) if old is not None else ()
        now = needed(new.spec.task_template) if new is not None else ()
        if before == now:
            return
        for source in now:
            if source not in self._users:
                self._left_out[source] = None
            self._users.setdefault(source, {})[service_id] = None
        for source in before:
            if source not in now:
                self._leave(source, service_id)
        self._admit()

    def report(self, node_id: NodeId, found: Mapping[str, Presence]) -> dict[ServiceId, None]:
        """The node's agent reports these sources; returns the services for which that is news."""
        concerned: dict[ServiceId, None] = {}
        for source, presence in found.items():
            known = self._watched.get(source)
            if known is None or known.get(node_id, Presence.UNKNOWN) is presence:
                continue
            known[node_id] = presence
            self._columns.pop(source, None)
            concerned.update(self._users[source])
        return concerned

    def forget(self, node_id: NodeId) -> None:
        """The node was removed, or its agent reports nothing any more."""
        for source, known in self._watched.items():
            if known.pop(node_id, None) is not None:
                self._columns.pop(source, None)

    def column(self, source: str) -> PresenceColumn:
        """By row of the node table, what is known of the source. Do not write to it."""
        version = self._table.attributes_version
        made_at, column = self._columns.get(source, (-1, None))
        if column is None or made_at != version or len(column) != len(self._table.number):
            column = np.zeros(len(self._table.number), np.int8)
            for node_id, presence in self._watched.get(source, {}).items():
                if (row := self._table.rows.get(node_id)) is not None:
                    column[row] = presence
            if source in self._watched:
                self._columns[source] = version, column
        return column

    def _leave(self, source: str, service_id: ServiceId) -> None:
        users = self._users[source]
        del users[service_id]
        if users:
            return
        del self._users[source]
        self._left_out.pop(source, None)
        self._columns.pop(source, None)
        if self._watched.pop(source, None) is not None:
            self._bytes -= len(source.encode())
            self.version += 1

    def _admit(self) -> None:
        """Watch those left out, the first first, while the limits allow it."""
        while self._left_out and len(self._watched) < BIND_SOURCES_MAX:
            source = next(iter(self._left_out))
            size = len(source.encode())
            if self._bytes + size > BIND_SOURCES_BYTES:
                return
            del self._left_out[source]
            self._watched[source] = {}
            self._bytes += size
            self.version += 1
