"""Docker's filters for events. PURE: an event is what says what happened to which object."""

from collections.abc import Sequence
from typing import Protocol

from controller.requests import filters
from controller.requests.filters import Filters, Key


class Happening(Protocol):
    """What of an event its filters ask."""

    @property
    def type(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...


def _about(kind: str) -> Key[Happening]:
    return Key(
        lambda event, ref: (
            event.type == kind and (event.name == ref or (bool(ref) and event.id.startswith(ref)))
        )
    )


_TYPES = ("service", "task", "node", "network")
_KEYS: dict[str, Key[Happening]] = {
    "type": Key(lambda event, value: event.type == value, _TYPES),
    "event": Key(lambda event, value: event.action == value),
    "scope": Key(lambda _, value: value == "swarm", ("swarm", "local")),
    **{kind: _about(kind) for kind in _TYPES},
}


def parse_event_filters(wanted: Sequence[str]) -> Filters:
    """The filters by key. Raises InvalidArgument for a key that events do not have."""
    return filters.parse(wanted, _KEYS, "event")


def passes(event: Happening, wanted: Filters) -> bool:
    """Whether the event passes all keys, each by one of its values; what was missed always does."""
    return event.type == "events" or filters.matches(event, wanted, _KEYS)
