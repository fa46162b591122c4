"""Stacks as they are stored. PURE values.

docs/decisions/0036-stacks.md states the rules.
"""

from typing import NewType

from pyswarm_core.clock import Instant
from pyswarm_core.identity.author import Author
from pyswarm_core.model import Model
from pyswarm_core.objects import Object, Version
from pyswarm_core.payloads.payload import PayloadSpec
from pyswarm_core.specs import NetworkSpec, RegistryLogin, ServiceSpec
from pyswarm_core.volumes.volume import VolumeSpec

StackId = NewType("StackId", str)


class StackPayloadVersion(Model, frozen=True, kw_only=True):
    """A secret or config of a stack, without its data."""

    spec: PayloadSpec
    number: int
    """The number of the version."""


class StackContent(Model, frozen=True, kw_only=True):
    """What a version of a stack consists of, by names: images have their digests, references to
    secrets and configs their numbers.
    """

    name: str
    services: tuple[ServiceSpec, ...] = ()
    """With the number of replicas of the file, whatever users have set since."""
    networks: tuple[NetworkSpec, ...] = ()
    volumes: tuple[VolumeSpec, ...] = ()
    secrets: tuple[StackPayloadVersion, ...] = ()
    configs: tuple[StackPayloadVersion, ...] = ()


class PreviousStack(Model, frozen=True):
    """An earlier version of a stack."""

    version: int
    spec: StackContent
    created_at: Instant = Instant(0)
    """When it was applied."""
    updated_by: Author | None = None
    """Who applied it."""


class StackMember(Model, frozen=True):
    """An object of a stack; of a secret or config, its newest version."""

    kind: str
    id: str
    name: str


class PendingService(Model, frozen=True, kw_only=True):
    """What a request asks of a service beside its spec, until the store has all of the change."""

    name: str
    force_update: int = 0
    """Its tasks are replaced: the number of forced updates that it gets; 0: they are not."""
    resets_scale: bool = False
    """The number of replicas that users set by hand ends, if it still is `by_hand`."""
    by_hand: int = 0
    registry: str = ""
    """It gets the login of this registry; empty: none."""


class Stack(Object, frozen=True):
    """A stack, its present version and those that it can return to."""

    id: StackId
    spec: StackContent
    version: Version = Version()
    created_at: Instant = Instant(0)
    updated_at: Instant = Instant(0)
    spec_version: int = 1
    applied_at: Instant = Instant(0)
    """When the present version was applied."""
    previous_specs: tuple[PreviousStack, ...] = ()
    """Newest first."""
    members: tuple[StackMember, ...] = ()
    leaving: tuple[StackMember, ...] = ()
    """Objects that are removed once nothing uses them."""
    applying: bool = False
    """Not all objects of the version may be stored yet: a leader that begins completes it."""
    removing: bool = False
    """Its services are being removed; it goes with the last of them."""
    pending: tuple[PendingService, ...] = ()
    """While it is being applied: what its services get beside their specs."""
    logins: tuple[RegistryLogin, ...] = ()
    """The logins of registries for that."""
    updated_by: Author | None = None

    @property
    def applied_from(self) -> StackContent | None:
        """What the stack was before its last change: its content, unless that made a new version.
        None: nothing, or a version that is not kept.
        """
        if self.applied_at != self.updated_at:
            return self.spec
        return self.previous_specs[0].spec if self.previous_specs else None

    @property
    def is_unfinished(self) -> bool:
        """Whether the leader has work left to do."""
        return self.applying or self.removing or bool(self.leaving)
