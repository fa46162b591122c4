"""Lists, and what identifies their entries when two merge. PURE."""

from collections.abc import Callable
from typing import Any

from compose.forms.base import Form, Merge, Rule
from compose.reading import Reading
from compose.tree import Mark, Node, Path, Place, plain
from pyswarm_core.errors import quoted

_NOWHERE = Place("")


def value_of(node: Node) -> Any:
    """An entry is what it says."""
    return node.value


def united(entries: list[Node], merge: Merge) -> list[Node]:
    """Each entry once: a later one in the place of the earlier one. Those that are reset stay."""
    identity = merge.identity or value_of
    places: dict[Any, int] = {}
    found: list[Node] = []
    for entry in entries:
        if entry.mark is Mark.RESET:
            found.append(entry)
            continue
        # What a text with a variable is, shows only when it has its value.
        is_open = isinstance(entry.value, str) and "$" in entry.value
        key = entry.value if is_open else _hashed(identity(entry))
        if key in places:
            found[places[key]] = entry
        else:
            places[key] = len(found)
            found.append(entry)
    return found


def expect_once(entries: list[Node], at: Path, reading: Reading) -> None:
    """A fault for each text that the list of one file has again."""
    first: dict[str, Node] = {}
    for number, entry in enumerate(entries):
        if not isinstance(entry.value, str) or entry.mark is not None:
            continue
        if (other := first.setdefault(entry.value, entry)) is not entry:
            text = f"{quoted(entry.value)} is already in the list at line {other.place.line}"
            reading.report.fault(entry, (*at, number), f"{text}: remove one of them")


def _hashed(key: Any) -> Any:
    return repr(plain(Node(key, _NOWHERE))) if isinstance(key, dict | list) else key


class Listing(Form):
    """A list of values of one form; with `or_one`, one value is a list of it."""

    def __init__(
        self,
        form: Form,
        merge: Rule | Merge = Rule.APPEND,
        *,
        or_one: bool = False,
        expand: Callable[[Node, Path, Reading], list[Node] | None] | None = None,
        example: str = "a list",
        in_order: bool = False,
        once: bool = False,
        drops_empty: bool = False,
        keeps_empty: bool = False,
    ) -> None:
        """With `once` an entry that one file repeats is a fault; with `drops_empty` an empty text
        is no entry. With `keeps_empty` the model has the list even if nothing is in it.
        """
        self._keeps_empty = keeps_empty
        self.form = form
        self._entries_once, self._drops_empty = once, drops_empty
        self.merge = Merge(merge) if isinstance(merge, Rule) else merge
        self._or_one, self._expand, self._example = or_one, expand, example
        self.in_order = in_order

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The list; an entry that is reset stays, as a mark for the merge."""
        value = node.value
        if self._or_one and not isinstance(value, list | dict):
            value = [Node(value, node.place, None, node.written)]
        if not isinstance(value, list):
            return reading.refuse(node, at, self._example)
        if self._entries_once:
            expect_once(value, at, reading)
        found: list[Node] = []
        for number, child in enumerate(value):
            if not self._drops_empty or child.value != "":
                found += self._entries(child, (*at, number), reading)
        return node.at(self._once(found, at, reading))

    def _once(self, entries: list[Node], at: Path, reading: Reading) -> list[Node]:
        """Each entry once; a notice if one with another meaning gives way."""
        if self.merge.rule not in (Rule.KEYED, Rule.UNIQUE):
            return entries
        kept = united(entries, self.merge)
        if len(kept) < len(entries) and self.merge.rule is Rule.KEYED:
            self._tell(entries, kept, at, reading)
        return kept

    def _tell(self, entries: list[Node], kept: list[Node], at: Path, reading: Reading) -> None:
        identity = self.merge.identity or value_of
        last = {_hashed(identity(entry)): entry for entry in kept}
        for entry in entries:
            winner = last[_hashed(identity(entry))]
            if entry is not winner and plain(entry) != plain(winner):
                told = f"the same as at line {entry.place.line}: the later one counts"
                reading.report.notice(winner, at, told)

    def _entries(self, child: Node, at: Path, reading: Reading) -> list[Node]:
        if child.mark is Mark.RESET and child.value is None:
            return [child]
        if child.value is None:
            reading.refuse(child, at, "a value")
            return []
        if reading.is_open(child.value):
            return [child]
        made: list[Node] | None = None
        if self._expand is not None:
            made = self._expand(child, at, reading)
        found = []
        for one in [child] if made is None else made:
            bare = Node(one.value, one.place, None, one.written, keys=one.keys)
            entry = self.form.read(bare, at, reading)
            if entry is not None:
                entry = Node(entry.value, entry.place, child.mark)
                found.append(entry)
        return found

    def child(self, key: str) -> Form | None:
        """The form of its entries."""
        del key
        return self.form

    def is_left_out(self, node: Node) -> bool:
        """An empty one, mostly."""
        return node.value is None or (not node.value and not self._keeps_empty)
