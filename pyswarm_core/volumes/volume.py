"""Volumes: what users request, and what is stored. PURE values.

docs/decisions/0027-volumes.md states the rules.
"""

from enum import StrEnum
from typing import NewType

from pyswarm_core.clock import Instant
from pyswarm_core.identity.author import Author
from pyswarm_core.ids import NodeId
from pyswarm_core.model import Model
from pyswarm_core.objects import Object, Version

VolumeId = NewType("VolumeId", str)

LOCAL = "local"
"""The only driver: a directory of the node."""
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


class Volume(Object, frozen=True):
    """A volume and where its copies are."""

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

    @property
    def home(self) -> NodeId:
        """The only node on which its tasks may run; empty if it may be any."""
        is_pinned = self.spec.placement is VolumePlacement.PINNED and self.copies
        return self.copies[0] if is_pinned else NodeId("")

    @property
    def is_anonymous(self) -> bool:
        """Whether it was made for a container that gave it no name."""
        return ANONYMOUS in self.spec.labels
