"""The leader's interface for the API: protocols only; `app.py` and `loop.py` implement them.

A server holds a `Leadership` and gets the leader from it in every call: leadership may be lost
between two awaits, and a former `Leader` raises Unavailable from `submit`.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar

from controller.brain.orchestrator.quarantine import Quarantine
from controller.brain.slices import Slices
from controller.identity.caller import Caller
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import IdSource, NodeId
from pyswarm_core.state import State
from pyswarm_core.volumes.volume import VolumeId

if TYPE_CHECKING:
    from controller.leader.audit.log import Auditor
    from controller.leader.events.history import EventHistory
    from controller.leader.moves.progress import MoveProgress
    from controller.leader.tunnels import Tunnels
    from controller.leader.watches import Watches

T = TypeVar("T")

Decided = tuple[Writes, T] | Slices[tuple[Writes, T]]
"""What to write, and the answer: at once, or in slices between which agents' reports arrive, and no
other request changes the state.
"""
Mutation = Callable[[State, Instant, IdSource], Decided[T]]
"""Decides a request. Only reads the state; raises to reject."""


def in_slices(decided: Decided[T]) -> Slices[tuple[Writes, T]]:
    """A result that was decided at once, as a sliced computation of one slice."""
    if isinstance(decided, tuple):
        return decided
    return (yield from decided)


class Silence(Protocol):
    """Numbers about silent agents and probes."""

    @property
    def nodes_held(self) -> int:
        """Nodes that are held back: more are silent than may be declared down per minute."""
        ...

    @property
    def down_per_minute(self) -> int:
        """How many nodes with tasks may be declared down per minute."""
        ...

    @property
    def nodes_filtered(self) -> int:
        """Nodes whose agents are heard and whose hosts do not answer echoes."""
        ...


class Leader(Protocol):
    """A controller while it leads."""

    @property
    def state(self) -> State:
        """The current state. Read it without an await in between; never change it."""
        ...

    @property
    def revision(self) -> int:
        """The store's revision of the last commit."""
        ...

    @property
    def events(self) -> "EventHistory":
        """The newest events. The loop records those of mutations."""
        ...

    @property
    def quarantine(self) -> Quarantine:
        """The objects for which a stage failed, and which it leaves out."""
        ...

    @property
    def tunnels(self) -> "Tunnels":
        """Streams to agents."""
        ...

    @property
    def acknowledged(self) -> Mapping[NodeId, int]:
        """The last revision that each connected agent acknowledged."""
        ...

    @property
    def controllers(self) -> tuple[str, ...]:
        """The addresses of running controllers, the leader first."""
        ...

    @property
    def silence(self) -> Silence:
        """Numbers about silent agents."""
        ...

    @property
    def audit(self) -> "Auditor":
        """Records of requested changes. The loop makes those of mutations."""
        ...

    async def submit(self, mutation: Mutation[T], caller: Caller, verb: str = "") -> T:
        """Run `mutation` on the state; return its answer once the store has its writes. The audit
        log has the verb, as on the command line; without one it is derived from the writes.

        Raises what `mutation` raises (a PyswarmError: nothing changed), or Unavailable when the
        store did not confirm in time or leadership was lost: it may or may not have happened.
        """
        ...

    @property
    def watches(self) -> "Watches":
        """Users' watches of services. The loop touches what it changes."""
        ...

    @property
    def moves(self) -> dict[VolumeId, "MoveProgress"]:
        """How far the copies of volumes are that this leader makes: its copier's to change."""
        ...


class Leadership(Protocol):
    """Any controller, leading or not."""

    @property
    def controller(self) -> str:
        """This controller's name."""
        ...

    @property
    def leader(self) -> str:
        """The leader's address, `host:port`; "" if none is known."""
        ...

    def current(self) -> Leader:
        """The leader, if it is this controller. Raises Unavailable naming the leader otherwise."""
        ...
