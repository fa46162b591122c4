"""Who made the changes that `why` names as causes. PURE."""

from collections.abc import Iterable, Iterator

from controller.api.queries.wording import named, since
from pyswarm_core.clock import Instant
from pyswarm_core.objects import Node, Service
from pyswarm_core.states import Availability

_DONE = {Availability.DRAIN: "drained", Availability.PAUSE: "paused"}


def changed_by(service: Service, now: Instant) -> list[str]:
    """Who created, updated or removed the service last, and when; nothing if nobody is named."""
    author = service.updated_by
    if author is None:
        return []
    done = f"was updated to version {service.spec_version}"
    if service.removing:
        done = "was removed"
    elif service.version.index <= 1:
        done = "was created"
    return [f"{named(service)} {done} by {author.text} {since(service.updated_at, now)}"]


def unavailable_by(nodes: Iterable[Node], now: Instant) -> Iterator[str]:
    """Who changed nodes last that are drained or paused: the author of the last version is stored,
    which may have changed something else.
    """
    for node in nodes:
        if node.updated_by is not None and node.spec.availability in _DONE:
            yield (
                f"node {node.description.hostname} is {_DONE[node.spec.availability]}; it was last"
                f" updated by {node.updated_by.text} {since(node.updated_at, now)}"
            )
