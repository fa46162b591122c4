"""Volumes: what users request, and what is stored. PURE values.

docs/decisions/0027-volumes.md states the rules.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NewType

from pyswarm_core.clock import Instant
from pyswarm_core.identity.author import Author
from pyswarm_core.ids import NodeId
from pyswarm_core.model import Model
from pyswarm_core.objects import Object, Version
from pyswarm_core.volumes.drivers import LOCAL, is_shared, reaches_host, size_of
from pyswarm_core.volumes.mounts import Driver

VolumeId = NewType("VolumeId", str)

ANONYMOUS = "com.docker.volume.anonymous"
"""Docker's label of a volume that nobody named."""


class VolumePlacement(StrEnum):
    """How many copies a volume may have."""

    PINNED = "pinned"
    """One: all its tasks run on that node."""
    ANY = "any"
    """One on each node that runs a task of it, as in Docker Swarm."""


class VolumeSpec(Model, frozen=True):
    """A volume as its user specified it."""

    name: str
    driver: str = LOCAL
    driver_opts: dict[str, str] = {}
    labels: dict[str, str] = {}
    placement: VolumePlacement = VolumePlacement.PINNED

    @property
    def is_shared(self) -> bool:
        """Whether every node reaches the same files."""
        return is_shared(self.driver, self.driver_opts)

    @property
    def size(self) -> int:
        """The bytes of the volume's own file system; 0: it has none."""
        return size_of(self.driver, self.driver_opts)

    @property
    def reaches_host(self) -> str:
        """The option that shows what is on the node itself; empty: none does."""
        return reaches_host(self.driver, self.driver_opts)


def default_placement(driver: str, options: Mapping[str, str]) -> VolumePlacement:
    """The placement of a volume for which its user gave none."""
    return VolumePlacement.ANY if is_shared(driver, options) else VolumePlacement.PINNED


class VolumeWorkKind(StrEnum):
    """Why the tasks of a volume are held."""

    MOVE = "move"
    """Its copy is moved to another node."""
    HOLD = "hold"
    """A backup or restore has its files for itself."""


class VolumeWork(Model, frozen=True, kw_only=True):
    """Work on a volume's files: no task that mounts it runs meanwhile."""

    kind: VolumeWorkKind
    to: NodeId = NodeId("")
    """The destination of a move."""
    reason: str = ""
    """What a hold is for, as users read it."""
    started_at: Instant
    until: Instant = Instant(0)
    """When a hold ends by itself, unless it is extended; 0: a move."""


class VolumeUsage(Model, frozen=True):
    """What a node measured of its copy of a volume."""

    node_id: NodeId = NodeId("")
    bytes: int = 0
    """On the disk; of a file system of its own, what it reports."""
    inodes: int = 0
    measured_at: Instant = Instant(0)
    """0: it could not be measured yet."""
    last_used_at: Instant = Instant(0)
    """When a task began or ceased to use it; 0: unknown."""


class MeasuredVolume(Model, frozen=True):
    """A volume in a node's report."""

    id: VolumeId
    usage: VolumeUsage = VolumeUsage()


class Volume(Object, frozen=True):
    """A volume and where its copies are. docs/decisions/0030-moving-volumes.md."""

    id: VolumeId
    spec: VolumeSpec
    version: Version = Version()
    created_at: Instant = Instant(0)
    updated_at: Instant = Instant(0)
    copies: tuple[NodeId, ...] = ()
    """The nodes that have a copy, or that make one for their first task: at most one of a pinned
    volume.
    """
    removing: bool = False
    """Its copies are being deleted; its name is free."""
    updated_by: Author | None = None
    work: VolumeWork | None = None
    leaving: tuple[NodeId, ...] = ()
    """Nodes that delete what is no copy any more: the source of a finished move, the destination of
    a failed one.
    """
    forgotten: tuple[NodeId, ...] = ()
    """Nodes that were lost with a copy. Nothing is ordered there until the volume is removed."""
    failure: str = ""
    """Why the last move failed; empty once another one begins."""
    secret_opts: dict[str, str] = {}
    """The options that have passwords, which the spec has masked."""
    usage: tuple[VolumeUsage, ...] = ()
    """Observed, of the nodes in `copies`."""

    @property
    def home(self) -> NodeId:
        """The only node on which its tasks may run; empty if it may be any."""
        is_pinned = self.spec.placement is VolumePlacement.PINNED and self.copies
        return self.copies[0] if is_pinned else NodeId("")

    @property
    def full_driver(self) -> Driver:
        """The driver with all options, passwords too."""
        return Driver(name=self.spec.driver, options=self.spec.driver_opts | self.secret_opts)

    @property
    def size(self) -> int | None:
        """The bytes of all copies; of files that every node reaches, those that were measured last.
        None: nothing was measured.
        """
        known = [one for one in self.usage if one.measured_at]
        if not known:
            return None
        if self.spec.is_shared:
            return max(known, key=lambda one: one.measured_at).bytes
        return sum(one.bytes for one in known)

    @property
    def last_used_at(self) -> Instant:
        """When a task last began or ceased to use it; 0: unknown."""
        return max((one.last_used_at for one in self.usage), default=Instant(0))

    @property
    def is_anonymous(self) -> bool:
        """Whether it was made for a container that gave it no name."""
        return ANONYMOUS in self.spec.labels


def as_placed(volume: Volume) -> tuple[object, ...]:
    """What of it decides where its tasks run. That a hold is extended changes nothing here."""
    kept = (volume.copies, volume.leaving, volume.forgotten)
    return (volume.spec.name, volume.spec.placement, volume.removing, volume.work is None, *kept)


def to_delete(volume: Volume) -> tuple[NodeId, ...]:
    """The nodes that are to delete what they have of it."""
    return (*(volume.copies if volume.removing else ()), *volume.leaving)


def without(nodes: tuple[NodeId, ...], node_id: NodeId) -> tuple[NodeId, ...]:
    """The nodes without that one."""
    return tuple(one for one in nodes if one != node_id)
