"""What a leader does beside the requests of its users, for as long as it leads. SHELL."""

from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from controller.api.registry.upkeep import keep_collected
from controller.api.rotations import end_rotations
from controller.api.stacking.changes import finish_stacks
from controller.leader.leadership import Leader
from controller.registry.registry import FleetRegistry, NoRegistry
from pyswarm_core.clock import Clock


def duties(
    leader: Leader,
    clock: Clock,
    registry: FleetRegistry | NoRegistry,
    routes: Callable[[], Sequence[str]],
) -> Iterator[Coroutine[Any, Any, None]]:
    """Each is a task of the term."""
    yield end_rotations(leader, clock)
    yield finish_stacks(leader, routes)
    yield keep_collected(leader, registry)
