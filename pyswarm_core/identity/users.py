"""Users of the API: specs and stored objects. PURE values.

A user authenticates with a certificate that the fleet's CA issued for its id, or with one of its
tokens. The store has only the hashes of tokens.
"""

from enum import StrEnum
from typing import NewType

from pyswarm_core.clock import NEVER, Instant
from pyswarm_core.model import Model
from pyswarm_core.objects import Object, Version

STACK_LABEL = "com.docker.stack.namespace"
"""The label of objects that belong to a stack."""

UserId = NewType("UserId", str)


class Role(StrEnum):
    """What a user may do. Each role includes the ones before it."""

    VIEWER = "viewer"
    """Read everything but credentials."""
    OPERATOR = "operator"
    """Change services and networks."""
    ADMIN = "admin"
    """Change nodes, users, the swarm, and what gives a container power over its host."""

    def includes(self, other: "Role") -> bool:
        """Whether it may do all that the other role may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


class UserSpec(Model, frozen=True):
    """A user as an admin specified it."""

    name: str
    role: Role = Role.VIEWER
    stacks: tuple[str, ...] = ()
    """The only stacks whose objects it may see and change; empty: all objects."""
    labels: dict[str, str] = {}


class UserToken(Model, frozen=True):
    """A token of a user, without its secret."""

    id: str
    hash: str = ""
    """The SHA-256 of its secret, in hex. A secret is a random number of 128 bits: a slow hash with
    a salt protects passwords, which can be guessed, and would add nothing here.
    """
    created_at: Instant = Instant(0)
    expires_at: Instant = Instant(0)
    """0: it does not expire."""
    description: str = ""

    @property
    def ends_at(self) -> Instant:
        """When it stops working."""
        return self.expires_at or NEVER


class User(Object, frozen=True):
    """A user of the API."""

    id: UserId
    spec: UserSpec
    version: Version = Version()
    created_at: Instant = Instant(0)
    updated_at: Instant = Instant(0)
    tokens: tuple[UserToken, ...] = ()
    """Oldest first."""
