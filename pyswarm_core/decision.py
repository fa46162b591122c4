"""What deciding returns. PURE values: nothing here acts.

`Writes` name whole objects to put or ids to delete, each valid alone and in any order within one
decision.
"""

from collections.abc import Collection
from enum import StrEnum
from typing import NamedTuple

import msgspec

from pyswarm_core.clock import NEVER, Instant
from pyswarm_core.ids import NetworkId, NodeId, ServiceId, TaskId
from pyswarm_core.kinds import Id, Item, Kind, ObjectName, split_name
from pyswarm_core.objects import Cluster, Object, Task
from pyswarm_core.views import Event


class EventKind(StrEnum):
    """Kinds of events, as TYPE.ACTION. Objects of every kind also have the events create, update,
    remove and quarantine: `service.create` and so on.
    """

    SERVICE_REMOVED = "service.remove"
    NODE_READY = "node.ready"
    NODE_DISCONNECTED = "node.disconnected"
    NODE_DOWN = "node.down"
    TASK_STATE = "task.state"
    TASK_CREATED = "task.create"
    TASK_REPLACED = "task.replace"
    TASK_UNPLACED = "task.pending"
    TASK_SHUTDOWN = "task.shutdown"


class Writes(msgspec.Struct, frozen=True):
    """Objects to put and to delete. Empty tuples and lists mean nothing to do."""

    cluster: Cluster | None = None
    objects: tuple[Object, ...] = ()
    """Created and changed, of all kinds."""
    tasks: list[Task] = []
    """Created and changed tasks alike; a task appears at most once."""
    removed: tuple[ObjectName, ...] = ()
    removed_tasks: list[TaskId] = []

    def __bool__(self) -> bool:
        return bool(
            self.cluster or self.objects or self.tasks or self.removed or self.removed_tasks
        )

    def of(self, kind: Kind[Item, Id]) -> list[Item]:
        """The objects of that kind to put."""
        return [item for item in self.objects if isinstance(item, kind.struct)]

    def removed_of(self, kind: Kind[Item, Id]) -> list[Id]:
        """The ids of the objects of that kind to delete."""
        named = map(split_name, self.removed)
        return [kind.id_type(object_id) for name, object_id in named if name == kind.name]


class Proof(NamedTuple):
    """What tasks of a service's current template say of an update to it."""

    waits: bool = False
    """A slot's task is about to be replaced, or one does not run yet."""
    first: Instant = NEVER
    """When the first of them has proven itself."""
    restarted: Instant = Instant(0)
    """When the last of those that had to be restarted has."""

    def joined(self, other: "Proof") -> "Proof":
        """What both say."""
        return Proof(
            self.waits or other.waits,
            min(self.first, other.first),
            max(self.restarted, other.restarted),
        )


class Work(msgspec.Struct, frozen=True, gc=False):
    """What a decision looked at: its cost, counted."""

    cost: int = 0
    """In units of DECISION_COST."""
    services: int = 0
    """Planned."""
    slots: int = 0
    """Whose tasks were looked at one by one."""
    placings: int = 0
    """Services for whose tasks nodes were looked for: each looks at all nodes at once."""
    retried: int = 0
    """Waiting services that were compared with the nodes that changed."""
    networks: int = 0
    """Whose blocks were looked at."""


class Cursor(NamedTuple):
    """Where to go on with a service of which a decision looked at a part: a round over its slots
    takes as many decisions as it needs.
    """

    slot: int = 0
    """The lowest slot that this round has yet to look at."""
    proof: Proof = Proof()
    """What the slots that it looked at say of an update."""
    surplus: tuple[int, ...] = ()
    """Slots that were chosen to be given up next: a choice looks at all slots."""


BEGINNING = Cursor()
"""Of a round."""


class Decision(msgspec.Struct, frozen=True):
    """The outcome of one `decide`."""

    writes: Writes = Writes()
    wakes: dict[ServiceId, Instant] = {}
    """When each service could change by time alone: the caller marks it dirty then.

    Replaces earlier wakes.
    """
    cluster_wake: Instant = NEVER
    """When the cluster itself could change by time alone, if it was decided about."""
    again: dict[ServiceId, Cursor] = {}
    """Services whose decision was cut to bound its size: decide again at once after applying the
    writes, from there on.
    """
    events: tuple[Event, ...] = ()
    work: Work = Work()
    unfinished: bool = False
    """Blocks are left to be given back, or tasks to be moved off nodes that may run nothing: decide
    again after applying the writes.
    """
    failed: dict[ServiceId, str] = {}
    """Services for which deciding raised an error, and which one: the caller leaves them alone
    until they change. What the writes hold for them is valid, but not all that they need.
    """
    failed_networks: dict[NetworkId, str] = {}
    """Networks whose blocks could not be worked out; their services wait."""


class Dirty:
    """What changed since the last decision. Mutable: shells add to it, `decide` only reads it."""

    def __init__(self) -> None:
        self.services: set[ServiceId] = set()
        self.resumed: dict[ServiceId, Cursor] = {}
        """Where to go on with those of them that an earlier decision looked at a part of."""
        self.nodes: set[NodeId] = set()
        self.freed: set[NodeId] = set()
        """Nodes on which tasks ended: what they took may help services that wait."""
        self.opened: set[NodeId] = set()
        """Those among them that had as many tasks as they accept: that may help any service."""
        self.networks: set[NetworkId] = set()
        """Networks that got room: a block, or a virtual address, was given back."""
        self.cluster = False
        self.quarantined: Collection[str] = ()
        """Services to leave alone unless they are in `services`."""

    def __bool__(self) -> bool:
        return bool(self.services or self.nodes or self.freed or self.networks or self.cluster)
