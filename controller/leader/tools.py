"""What a term's loop works with. SHELL: interfaces to the world."""

from collections.abc import Callable, Sequence

import msgspec

from controller.leader.persistence.saving import Saver
from controller.metrics import Metrics
from pyswarm_core.aio.echo import Asker, Done
from pyswarm_core.clock import Clock, Instant
from pyswarm_core.decision import Decision, Dirty
from pyswarm_core.ids import IdSource
from pyswarm_core.objects import Cluster, Object
from pyswarm_core.state import State

Decide = Callable[[State, Dirty, Instant, IdSource], Decision]


class Tools(msgspec.Struct, frozen=True):
    """The loop's dependencies."""

    decide: Decide
    saver: Saver
    clock: Clock
    ids: IdSource
    metrics: Metrics
    controllers: tuple[str, ...]
    """The addresses of controllers that agents receive."""
    echoes: Callable[[Done], Asker]
    """Makes the asker of a term."""
    callers_changed: Callable[[Sequence[Object | Cluster], Sequence[str]], None] = lambda *_: None
    """Called with the users, nodes and cluster that changed, and the ids of removed ones."""
    registries: Callable[[], tuple[str, ...]] = tuple
    """The addresses of the fleet's registries, which agents receive as well."""
