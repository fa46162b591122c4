"""Docker's `--filter key=value`. PURE.

Several values of one key are alternatives; several keys all hold. Raises InvalidArgument for a key
or a value that the list does not know, naming those it knows: a misspelt filter never lists
everything.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from pyswarm_core.errors import invalid, similar
from pyswarm_core.kinds import CLUSTER, KINDS, NODE

T = TypeVar("T")
FILTERS_MAX = 100
Match = Callable[[T, str], bool]


class Key(Generic[T]):
    """One filter key: how an object matches a value, and the possible values (none: any)."""

    def __init__(self, match: Match[T], values: Sequence[str] = ()) -> None:
        self.match = match
        self.values = values


Filters = Mapping[str, Sequence[str]]


def parse(filters: Iterable[str], keys: Mapping[str, Key[T]], what: str) -> Filters:
    """The filters by key. `what` names the list in errors: `service`."""
    parsed: dict[str, list[str]] = {}
    for number, text in enumerate(filters):
        if number >= FILTERS_MAX:
            raise invalid("--filter", number + 1, f"expected at most {FILTERS_MAX}", "count")
        name, equals, value = text.partition("=")
        name, value = name.strip(" ").lower(), value.strip(" ")
        valid = ", ".join(sorted(keys))
        if not equals:
            raise invalid("--filter", text, f"expected KEY=VALUE, KEY of {valid}")
        if name not in keys:
            expected = f"expected one of {valid}{similar(name, keys)}"
            raise invalid("--filter", name, expected, f"{what} key")
        known = keys[name].values
        if known and value not in known:
            expected = f"expected one of {', '.join(known)}{similar(value, known)}"
            raise invalid("--filter", value, expected, name)
        parsed.setdefault(name, []).append(value)
    return parsed


def matches(item: T, filters: Filters, keys: Mapping[str, Key[T]]) -> bool:
    """Whether the object passes all keys, each by one of its values."""
    return all(
        any(keys[name].match(item, value) for value in values) for name, values in filters.items()
    )


def has_label(labels: Mapping[str, str], label: str) -> bool:
    """Docker's `label=KEY` or `label=KEY=VALUE`."""
    key, equals, value = label.partition("=")
    return key in labels and (not equals or labels[key] == value)


def has_part(name: str, value: str) -> bool:
    """Docker's regular expression of a name as far as it is used: a part of the name, which `^` and
    `$` bind to its ends.
    """
    begins, ends = value.startswith("^"), value.endswith("$")
    part = value.removeprefix("^").removesuffix("$")
    if begins and ends:
        return name == part
    return name.startswith(part) if begins else name.endswith(part) if ends else part in name


class Happening(Protocol):
    """The fields of an event that filters test."""

    @property
    def type(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def node(self) -> str: ...


def _about_event(kind: str) -> Key[Happening]:
    return Key(
        lambda event, ref: (
            event.type == kind and (event.name == ref or (bool(ref) and event.id.startswith(ref)))
        )
    )


def event_keys() -> Mapping[str, Key[Happening]]:
    """The filter keys of events: also one for each type of event."""
    is_node = _about_event(NODE.name).match
    types = (*KINDS, "task", "container", CLUSTER.name)
    return {
        "type": Key(lambda event, value: event.type == value, types),
        "event": Key(lambda event, value: event.action == value),
        "scope": Key(lambda _, value: value == "swarm", ("swarm", "local")),
        **{kind: _about_event(kind) for kind in types},
        NODE.name: Key(lambda event, ref: is_node(event, ref) or event.node == ref),
    }


def event_passes(event: Happening, given: Filters, keys: Mapping[str, Key[Happening]]) -> bool:
    """Whether the event passes all keys, each by one of its values; a report of dropped events
    always does.
    """
    return event.type == "events" or matches(event, given, keys)
