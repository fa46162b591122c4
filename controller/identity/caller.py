"""The callers of the API: who sent a request, with which role. PURE.

A caller is derived from the connection (its certificate, its token, the local socket), never from
the message. It travels with every change to the events and the audit log.
"""

from enum import StrEnum

import msgspec

from pyswarm_core.identity.users import Role

__all__ = ["ANONYMOUS", "CONTROLLER", "ROOT", "Caller", "CallerKind", "Role"]


class CallerKind(StrEnum):
    """How a caller was authenticated."""

    ANONYMOUS = "anonymous"
    """By the guest certificate: it has no identity yet, and may join or ask for a certificate."""
    AGENT = "agent"
    """By a node's certificate."""
    USER = "user"
    """By a user's certificate or token."""
    ROOT = "root"
    """By the Unix socket of a controller's host, which only root may open."""
    CONTROLLER = "controller"
    """The controller itself, without a request."""


class Caller(msgspec.Struct, frozen=True):
    """Who requested something."""

    kind: CallerKind
    id: str = ""
    """Of an agent its node's id, of a user the user's; else empty."""
    name: str = ""
    """The name that events and the audit log show."""
    role: Role | None = None
    """Of users and root."""
    stacks: tuple[str, ...] = ()
    """The only stacks whose objects a user may see and change; empty: all."""
    address: str = ""
    """The host that the request came from, or `socket`; empty for the controller."""
    token_id: str = ""
    """Of the token that a user showed, or with which its certificate was made."""


ANONYMOUS = Caller(CallerKind.ANONYMOUS, name="anonymous")
"""A caller without an identity."""
ROOT = Caller(CallerKind.ROOT, name="root", role=Role.ADMIN, address="socket")
"""Root on a controller's host."""
CONTROLLER = Caller(CallerKind.CONTROLLER, name="controller")
"""The controller itself, without a user's request."""
