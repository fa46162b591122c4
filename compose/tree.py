"""A Compose file as a tree whose values have places. PURE."""

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

Path: TypeAlias = tuple[str | int, ...]


class Place(NamedTuple):
    """Where a value is written; `line` is 0 if it has no line, as a default."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class Mark(Enum):
    """A tag of a value that says how it merges."""

    RESET = "!reset"
    """The key goes, the value does not count."""
    OVERRIDE = "!override"
    """The value takes the place of the earlier one."""


class Node:
    """A value and its place."""

    __slots__ = ("keys", "mark", "place", "value", "written")

    def __init__(
        self,
        value: Any,
        place: Place,
        mark: Mark | None = None,
        written: str = "",
        *,
        keys: Mapping[str, Place] | None = None,
    ) -> None:
        self.value = value
        """None, bool, int, float, str, dict[str, Node] or list[Node]."""
        self.place = place
        self.mark = mark
        self.written = written
        """A plain word that is no text, as it is written: `0644` of 420."""
        self.keys = keys
        """Of a map from a file, where its keys are."""

    @property
    def is_map(self) -> bool:
        """Whether the value is a map."""
        return isinstance(self.value, dict)

    def at(self, value: Any) -> "Node":
        """Another value at this place, with this mark."""
        return Node(value, self.place, self.mark)

    def get(self, *path: str) -> "Node | None":
        """The value at a path of keys; None if there is none, or null."""
        node = self
        for key in path:
            if not isinstance(node.value, dict) or (found := node.value.get(key)) is None:
                return None
            node = found
        return None if node.value is None else node

    def text(self, *path: str) -> str:
        """The text at a path of keys; empty if there is none."""
        found = self.get(*path)
        return found.value if found is not None and isinstance(found.value, str) else ""

    def items(self, *path: str) -> Iterator[tuple[str, "Node"]]:
        """The entries of the map at a path; none if there is no map."""
        found = self.get(*path)
        if found is not None and isinstance(found.value, dict):
            yield from found.value.items()

    def list(self, *path: str) -> "list[Node]":
        """The entries of the list at a path; none if there is no list."""
        found = self.get(*path)
        return found.value if found is not None and isinstance(found.value, list) else []


def plain(node: Node) -> Any:
    """The values of a tree, without places."""
    value = node.value
    if isinstance(value, dict):
        return {key: plain(child) for key, child in value.items()}
    if isinstance(value, list):
        return [plain(child) for child in value]
    return value


def planted(value: Any, place: Place) -> Node:
    """Values as a tree of one place."""
    if isinstance(value, dict):
        return Node({key: planted(child, place) for key, child in value.items()}, place)
    if isinstance(value, list):
        return Node([planted(child, place) for child in value], place)
    return Node(value, place)


def shown_path(path: Path) -> str:
    """`services.web.ports[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def named(value: Any) -> str:
    """What a value is, in the words of errors."""
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "the number" if isinstance(value, int | float) else "text"
