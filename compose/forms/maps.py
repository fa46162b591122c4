"""Maps: with keys of a table, and with keys of the author's. PURE."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from compose.forms.base import ANYTHING, Form, Merge, Rule
from compose.forms.lists import expect_once
from compose.forms.scalars import TEXT, WORDS, as_text
from compose.reading import Reading
from compose.tree import Mark, Node, Path
from pyswarm_core.errors import quoted, similar

NAMES = re.compile(r"[a-zA-Z0-9._-]+", re.ASCII)


class Key:
    """A key of a table: its form, and how it merges if not as the form does."""

    __slots__ = ("form", "merge", "takes_null")

    def __init__(
        self, form: Form, merge: Merge | Rule | None = None, *, takes_null: bool = False
    ) -> None:
        self.form = form
        self.takes_null = takes_null
        found = merge or form.merge
        self.merge = Merge(found) if isinstance(found, Rule) else found


class Table(Form):
    """A map whose keys are known."""

    merge = Merge(Rule.MAP)

    def __init__(
        self,
        keys: Mapping[str, Key | Form],
        *,
        needs: tuple[str, ...] = (),
        short: Callable[[Node], Any] | None = None,
        example: str = "a map",
        keeps_empty: bool = False,
        old: Mapping[str, str] | None = None,
    ) -> None:
        self.keys = {k: v if isinstance(v, Key) else Key(v) for k, v in keys.items()}
        self._needs, self._short, self._example = needs, short, example
        self._keeps_empty = keeps_empty
        self._old = old or {}

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The map, its values in their normal forms."""
        if not node.is_map and self._short is not None:
            long = self._short(node)
            node = node if long is None else Node(long, node.place, node.mark)
        if not node.is_map:
            return reading.refuse(node, at, self._example)
        found: dict[str, Node] = {}
        for name, child in node.value.items():
            if name.startswith("x-"):
                found[name] = child
            elif (key := self.keys.get(name)) is None:
                self._unknown(node, name, at, reading)
            elif (value := key.form.read(child, (*at, name), reading)) is not None:
                found[name] = value
        is_known = all(name in self.keys or name.startswith("x-") for name in node.value)
        for name in self._needs if is_known else ():
            if name not in node.value:
                reading.report.fault(node, at, f"the key {name} is missing")
        return node.at(found)

    def _unknown(self, node: Node, name: str, at: Path, reading: Reading) -> None:
        place = (node.keys or {}).get(name, node.place)
        if name in self._old:
            reading.report.fault(place, (*at, name), f"no such key: {self._old[name]}")
            return
        hint = similar(name, self.keys).removeprefix("; ")
        close = hint or f"expected one of {', '.join(self.keys)}"
        reading.report.fault(place, (*at, name), f"no such key: {close}")

    def child(self, key: str) -> Form | None:
        """The form of a key."""
        return self.keys[key].form if key in self.keys else ANYTHING

    def is_left_out(self, node: Node) -> bool:
        """An empty one, mostly."""
        return node.value is None or (not node.value and not self._keeps_empty)


class Entries(Form):
    """A map whose keys the author chooses: names of objects, variables, options."""

    merge = Merge(Rule.MAP)

    def __init__(
        self,
        form: Form,
        *,
        listed: Callable[[Node], tuple[str, Any]] | None = None,
        names: bool = False,
        example: str = "a map",
        null_keeps: bool = False,
        keeps_empty: bool = False,
        once: bool = False,
    ) -> None:
        """With `once` an entry that the list of one file repeats is a fault."""
        self.form = form
        self._listed, self._names, self._example = listed, names, example
        self._once = once
        self.null_keeps = null_keeps
        """Whether an entry without a value stays in the model."""
        self._keeps_empty = keeps_empty

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The map; of a list, what its entries say."""
        found: dict[str, Node] = {}
        for name, child, path in self._children(node, at, reading):
            if self._names and not NAMES.fullmatch(name) and not reading.is_open(name):
                place = (node.keys or {}).get(name, child.place)
                text = f"{quoted(name)} is no name: expected letters, digits, . _ and -"
                reading.report.fault(place, path, text)
            elif not name:
                reading.report.fault(child, at, "the key is empty: expected a name")
            elif (value := self.form.read(child, path, reading)) is not None:
                found[name] = value
        return node.at(found) if node.is_map or self._is_list(node) else None

    def _is_list(self, node: Node) -> bool:
        return isinstance(node.value, list) and self._listed is not None

    def _children(self, node: Node, at: Path, reading: Reading) -> list[tuple[str, Node, Path]]:
        if node.is_map:
            return [(name, child, (*at, name)) for name, child in node.value.items()]
        if not self._is_list(node) or self._listed is None:
            reading.refuse(node, at, self._example)
            return []
        found = []
        if self._once:
            expect_once(node.value, at, reading)
        for number, child in enumerate(node.value):
            path = (*at, number)
            if not isinstance(child.value, str):
                reading.refuse(child, path, "text in a list, as in - NAME=VALUE")
                continue
            name, value = self._listed(child)
            if self._listed is equals and name != name.rstrip():
                text = f"{quoted(name)} ends with a space: write NAME=VALUE"
                reading.report.fault(child, path, text)
            made = value if isinstance(value, Node) else Node(value, child.place, child.mark)
            found.append((name, made, path))
        return found

    def is_left_out(self, node: Node) -> bool:
        """An empty one, mostly."""
        return node.value is None or (not node.value and not self._keeps_empty)

    def child(self, key: str) -> Form | None:
        """The form of all values."""
        del key
        return self.form


class Value(Form):
    """The value of a variable or label: a text, number or truth, kept as a text."""

    keeps_null = True
    takes_null = True

    def __init__(self, *, null: str | None = None, takes_bool: bool = True) -> None:
        self._null, self._takes_bool = null, takes_bool

    def read(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """As any form; null has a meaning."""
        if node.value is None and node.mark is not Mark.RESET:
            return node.at(self._null)
        return super().read(node, at, reading)

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The text."""
        value = node.value
        if isinstance(value, str):
            return node
        if isinstance(value, dict | list) or (isinstance(value, bool) and not self._takes_bool):
            return reading.refuse(node, at, "text or a number")
        return as_text(node, at, reading)

    def is_left_out(self, node: Node) -> bool:
        """Never."""
        del node
        return False


def equals(node: Node) -> tuple[str, Any]:
    """`NAME=VALUE`, or `NAME` alone."""
    name, sign, value = node.value.partition("=")
    return name, Node(value if sign else None, node.place, node.mark)


def bare(node: Node) -> tuple[str, Any]:
    """`NAME`."""
    return node.value, None


VARIABLES = Entries(Value(), listed=equals, example="a map or a list of NAME=VALUE")
LABELS = Entries(Value(null=""), listed=equals, example="a map or a list of NAME=VALUE")
OPTIONS = Entries(Value(null="", takes_bool=False), example="a map of texts")
TEXTS = Entries(WORDS, example="a map of texts")
__all__ = ["Entries", "Key", "LABELS", "OPTIONS", "TEXT", "TEXTS", "Table", "VARIABLES", "Value"]
