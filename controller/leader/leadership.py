"""What the API servers see of the leader: protocols only; `app.py` and `loop.py` fulfil them.

A server keeps a `Leadership` and asks it for the leader anew in every call: leadership may be lost
between two awaits, and a `Leader` of the past raises Unavailable from `submit`.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from controller.brain.orchestrator.quarantine import Quarantine
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import IdSource, NodeId
from pyswarm_core.state import State

if TYPE_CHECKING:
    from controller.leader.events import EventHistory
    from controller.leader.tunnels import Tunnels
    from controller.leader.watches import Watches

T = TypeVar("T")

Mutation = Callable[[State, Instant, IdSource], tuple[Writes, T]]
"""Decides a request: what to write, and the answer. Reads the state only; raises to refuse."""


class Caller(msgspec.Struct, frozen=True):
    """Who asks for a change."""

    name: str


ANONYMOUS = Caller("anonymous")
"""Any user: nobody proves yet who they are."""
CONTROLLER = Caller("controller")
"""The fleet itself: nobody asked."""


class Silence(Protocol):
    """What is known of silent agents and of probes."""

    @property
    def nodes_held(self) -> int:
        """Nodes that would be down, but more are silent at once than are called down per minute."""
        ...

    @property
    def down_per_minute(self) -> int:
        """How many that are."""
        ...

    @property
    def nodes_filtered(self) -> int:
        """Nodes whose hosts do not answer echoes although their agents are heard."""
        ...


class Leader(Protocol):
    """A controller while it leads."""

    @property
    def state(self) -> State:
        """Everything, now. Read it without an await in between; never change it."""
        ...

    @property
    def revision(self) -> int:
        """The store's revision of the last commit."""
        ...

    @property
    def events(self) -> "EventHistory":
        """What happened lately. The loop records what mutations write by itself."""
        ...

    @property
    def quarantine(self) -> Quarantine:
        """The objects that something failed for, which alone are left out."""
        ...

    @property
    def tunnels(self) -> "Tunnels":
        """Streams to agents."""
        ...

    @property
    def acknowledged(self) -> Mapping[NodeId, int]:
        """The last revision that each connected agent carried out."""
        ...

    @property
    def controllers(self) -> tuple[str, ...]:
        """Where the living controllers answer, the leader first."""
        ...

    @property
    def silence(self) -> Silence:
        """See there."""
        ...

    async def submit(self, mutation: Mutation[T], caller: Caller) -> T:
        """Run `mutation` on the state; return its answer once the store has its writes.

        Raises what `mutation` raises (a PyswarmError: nothing changed), or Unavailable when the
        store did not confirm in time or leadership was lost: it may or may not have happened.
        """
        ...

    @property
    def watches(self) -> "Watches":
        """What users watch of services. The loop touches what it changes by itself."""
        ...


class Leadership(Protocol):
    """Any controller, leading or not."""

    @property
    def controller(self) -> str:
        """This controller's name."""
        ...

    @property
    def leader(self) -> str:
        """Where the leader answers, `host:port`; "" if nobody leads as far as is known."""
        ...

    def current(self) -> Leader:
        """The leader, if it is this controller. Raises Unavailable naming the leader otherwise."""
        ...
