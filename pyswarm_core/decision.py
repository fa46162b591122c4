"""The result of a decision. PURE values: nothing here acts.

`Writes` name whole objects to put or ids to delete, each valid alone and in any order within one
decision.
"""

from collections.abc import Collection, Iterator
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
    remove and quarantine: `service.create` and so on. Words of an action are joined by `_`, as in
    Docker's `health_status`; what takes a while has NAME_started and NAME_completed or NAME_failed.
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
    CRASH_LOOP = "task.crash_loop"
    LAYER_LOST = "service.layer_lost"
    UPDATE_STARTED = "service.update_started"
    UPDATE_PAUSED = "service.update_paused"
    UPDATE_COMPLETED = "service.update_completed"
    ROLLBACK = "service.rollback"
    VOLUME_MOVE_STARTED = "volume.move_started"
    VOLUME_MOVE_COMPLETED = "volume.move_completed"
    VOLUME_MOVE_FAILED = "volume.move_failed"
    VOLUME_FORGOTTEN = "volume.forget"


class Writes(msgspec.Struct, frozen=True):
    """Objects to put and to delete. Empty tuples and lists: no change."""

    cluster: Cluster | None = None
    objects: tuple[Object, ...] = ()
    """Created and changed objects of all kinds."""
    tasks: list[Task] = []
    """Created and changed tasks; a task appears at most once."""
    removed: tuple[ObjectName, ...] = ()
    removed_tasks: list[TaskId] = []

    def __bool__(self) -> bool:
        return bool(
            self.cluster or self.objects or self.tasks or self.removed or self.removed_tasks
        )

    def parts(self, count: int) -> "Iterator[Writes]":
        """The writes in parts of so many objects, to be applied one after the other. What the
        change is about, which is last, comes first; what is removed goes with the last part.
        """
        if len(self.objects) <= count:
            yield self
            return
        objects = (self.objects[-1], *self.objects[:-1])
        *firsts, last = range(0, len(objects), count)
        for first in firsts:
            yield Writes(objects=objects[first : first + count])
        yield msgspec.structs.replace(self, objects=objects[last:])

    def of(self, kind: Kind[Item, Id]) -> list[Item]:
        """The objects of that kind to put."""
        return [item for item in self.objects if isinstance(item, kind.struct)]

    def removed_of(self, kind: Kind[Item, Id]) -> list[Id]:
        """The ids of the objects of that kind to delete."""
        named = map(split_name, self.removed)
        return [kind.id_type(object_id) for name, object_id in named if name == kind.name]


class Work(msgspec.Struct, frozen=True, gc=False):
    """What a decision examined: its cost, counted."""

    cost: int = 0
    """In units of DECISION_COST."""
    services: int = 0
    """Services that were planned."""
    slots: int = 0
    """Slots whose tasks were examined one by one."""
    placings: int = 0
    """Services for whose tasks nodes were searched: each search examines all nodes at once."""
    retried: int = 0
    """Waiting services that were compared with the changed nodes."""
    networks: int = 0
    """Networks whose blocks were examined."""


class Cursor(NamedTuple):
    """Where the next decision continues with a service that was examined in part: a round over its
    slots takes as many decisions as it needs.
    """

    slot: int = 0
    """The lowest slot that this round has not examined."""
    surplus: tuple[int, ...] = ()
    """Slots chosen to be removed next: a choice examines all slots."""
    unshown: bool = False
    """Whether the round left slots without a task because enough pending tasks were stored."""
    anew: bool = False
    """Whether another round follows: fewer pending tasks are stored than when slots were left so.
    """
    lacking: int = 0
    """Of a global service, the lowest number of a node that may lack its slot: they are looked for
    after the last slot, and no part of the round before that does.
    """
    woken: bool = False
    """Whether it is decided because another service changed: then it wakes none in turn."""


BEGINNING = Cursor()
"""The start of a round."""
WOKEN = Cursor(woken=True)
"""The start of a round over a service that has not changed."""


class Decision(msgspec.Struct, frozen=True):
    """The result of one `decide`."""

    writes: Writes = Writes()
    wakes: dict[ServiceId, Instant] = {}
    """When each service can next change by time alone; the caller marks it dirty then. Replaces
    earlier wakes.
    """
    cluster_wake: Instant = NEVER
    """When the cluster can next change by time alone, if this decision examined it."""
    volumes_wake: Instant = NEVER
    """When a volume can next change by time alone. Every decision examines all that can."""
    again: dict[ServiceId, Cursor] = {}
    """Services whose decision was cut to bound its size: decide again, from this position, after
    applying the writes.
    """
    events: tuple[Event, ...] = ()
    work: Work = Work()
    unfinished: bool = False
    """More blocks to release, or more tasks to move off nodes that may run nothing: decide again
    after applying the writes.
    """
    failed: dict[ServiceId, str] = {}
    """Services whose decision raised an error, and the error: the caller leaves them out until they
    change. Their writes are valid, but incomplete.
    """
    failed_networks: dict[NetworkId, str] = {}
    """Networks whose blocks could not be computed; their services wait."""


class Dirty:
    """What changed since the last decision. Mutable: shells add to it, `decide` only reads it."""

    def __init__(self) -> None:
        self.services: set[ServiceId] = set()
        self.resumed: dict[ServiceId, Cursor] = {}
        """Where to continue with services that an earlier decision examined in part."""
        self.nodes: set[NodeId] = set()
        self.freed: set[NodeId] = set()
        """Nodes on which tasks ended: waiting services may fit there now."""
        self.opened: set[NodeId] = set()
        """Those among them that ran as many tasks as they accept: any waiting service may fit
        there.
        """
        self.networks: set[NetworkId] = set()
        """Networks in which a block or a virtual address was released."""
        self.cluster = False
        self.volumes = False
        """Volumes with work, or its time: every decision examines them."""
        self.quarantined: Collection[str] = ()
        """Services to leave out unless they are in `services`."""

    def __bool__(self) -> bool:
        changed = self.services or self.nodes or self.freed or self.networks
        return bool(changed or self.cluster or self.volumes)
