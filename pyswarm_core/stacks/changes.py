"""Requests to change stacks, and what they change. PURE values."""

from enum import StrEnum

from pyswarm_core.model import Model
from pyswarm_core.specs import RegistryLogin
from pyswarm_core.stacks.spec import StackSpec
from pyswarm_core.stacks.stack import Stack


class Action(StrEnum):
    """What becomes of an object of a stack."""

    CREATED = "created"
    UPDATED = "updated"
    """Its tasks stay."""
    REPLACED = "replaced"
    """Its tasks are replaced."""
    REMOVED = "removed"
    UNCHANGED = "unchanged"
    KEPT = "kept"
    """It differs from the file, as the reason says."""


class ResolveImage(StrEnum):
    """Which images get the digest that their registries have now."""

    ALWAYS = "always"
    CHANGED = "changed"
    """Those that the file writes otherwise than before."""
    NEVER = "never"


class ApplyStack(Model, frozen=True, kw_only=True):
    """A request to create a stack or to change it."""

    spec: StackSpec
    dry_run: bool = False
    revision: int = 0
    """That of the answer to a dry run; 0: apply in any case."""
    prune: bool = False
    reset_scale: bool = False
    services: tuple[str, ...] = ()
    """Only these, by full names; empty: all."""
    recreate: tuple[str, ...] = ()
    """Services whose tasks are replaced although nothing changed, by full names."""
    logins: tuple[RegistryLogin, ...] = ()
    rescaled: tuple[str, ...] = ()
    """Services that get the numbers of replicas of the file, by full names; with `reset_scale`
    all.
    """
    resolve_image: str = ""
    """A word of ResolveImage; empty: always."""


class StackChange(Model, frozen=True, kw_only=True):
    """What becomes of one object."""

    kind: str
    name: str
    id: str = ""
    action: Action
    reason: str = ""
    difference: tuple[str, ...] = ()
    """`Field: before -> after`, with secrets masked."""
    spec_version: int = 0
    """Of a service, as it is then."""
    paused: bool = False
    """Of a service: its update is paused."""


class StackReply(Model, frozen=True, kw_only=True):
    """The answer to a request to change a stack."""

    stack: Stack | None = None
    revision: int = 0
    changes: tuple[StackChange, ...] = ()
    warnings: tuple[str, ...] = ()
