"""How a later file changes an earlier one: each key by its rule, `!reset` and `!override`. PURE.

Both sides are in normal form. A node that `!reset` removed stays in the tree as a mark until
`without_marks`: a service that extends another in this file also resets what earlier files say.
"""

from compose.forms.base import ANYTHING, Form, Merge, Rule
from compose.forms.lists import united, value_of
from compose.forms.maps import Entries, Table
from compose.tree import Mark, Node, plain

_DEFAULT = ANYTHING.merge
_APPEND = Merge(Rule.APPEND)


class Merging:
    """One way of merging: as Compose, or as `docker stack deploy` with files of version 3."""

    def __init__(self, *, docker: bool = False) -> None:
        self._docker = docker

    def merged(self, earlier: Node | None, later: Node, form: Form, merge: Merge) -> Node:
        """The value of a key of two files. `later` may be a mark."""
        if self._docker and merge.docker is not None:
            merge = merge.docker
        if later.mark is not None or earlier is None or earlier.mark is Mark.RESET:
            return later
        if later.value is None:
            resets = merge.rule is Rule.NULL_RESETS or form.keeps_null
            return later if resets and not earlier.is_map else earlier
        return self._combined(earlier, later, form, merge)

    def _combined(self, earlier: Node, later: Node, form: Form, merge: Merge) -> Node:
        both_maps = earlier.is_map and later.is_map
        both_lists = isinstance(earlier.value, list) and isinstance(later.value, list)
        match merge.rule:
            case Rule.MAP if both_maps:
                return self._maps(earlier, later, form)
            case Rule.LOGGING if both_maps and _same_driver(earlier, later):
                return self._maps(earlier, later, form)
            case Rule.MAP if both_lists and form is ANYTHING:
                return Node(self._lists(earlier, later, _APPEND), later.place, earlier.mark)
            case Rule.APPEND | Rule.UNIQUE | Rule.KEYED if both_lists:
                return Node(self._lists(earlier, later, merge), later.place, earlier.mark)
        return Node(later.value, later.place, earlier.mark)

    def _maps(self, earlier: Node, later: Node, form: Form) -> Node:
        found = dict(earlier.value)
        for key, value in later.value.items():
            rule = _merge_of(form, key)
            found[key] = self.merged(found.get(key), value, form.child(key) or ANYTHING, rule)
        return Node(found, later.place if later.place.line else earlier.place, earlier.mark)

    def _lists(self, earlier: Node, later: Node, merge: Merge) -> list[Node]:
        removed = [entry for entry in later.value if entry.mark is Mark.RESET]
        kept = _without(earlier.value, removed, merge) if removed else earlier.value
        added = [Node(e.value, e.place) for e in later.value if e.mark is not Mark.RESET]
        if merge.rule is not Rule.APPEND:
            return united([*kept, *added], merge)
        known = {repr(plain(entry)) for entry in kept}
        return [*kept, *(entry for entry in added if repr(plain(entry)) not in known)]


def _merge_of(form: Form, key: str) -> Merge:
    if isinstance(form, Table):
        return form.keys[key].merge if key in form.keys else _DEFAULT
    if isinstance(form, Entries):
        return form.form.merge
    return (form.child(key) or ANYTHING).merge


def _same_driver(earlier: Node, later: Node) -> bool:
    drivers = (earlier.text("driver"), later.text("driver"))
    return not all(drivers) or drivers[0] == drivers[1]


def _without(entries: list[Node], removed: list[Node], merge: Merge) -> list[Node]:
    """Without the entries that say the same, or are identified by the same."""
    identity = merge.identity or value_of
    named = [entry for entry in removed if entry.value is not None]
    gone = {repr(plain(entry)) for entry in named}
    keys = {repr(identity(entry)) for entry in named}
    return [
        entry
        for entry in entries
        if repr(plain(entry)) not in gone and repr(identity(entry)) not in keys
    ]


def without_marks(node: Node) -> Node:
    """The tree without what is reset, and without marks."""
    value = node.value
    if isinstance(value, dict):
        kept = {k: without_marks(v) for k, v in value.items() if v.mark is not Mark.RESET}
        return Node(kept, node.place, None, node.written, keys=node.keys)
    if isinstance(value, list):
        entries = [without_marks(entry) for entry in value if entry.mark is not Mark.RESET]
        return Node(entries, node.place)
    return Node(value, node.place, None, node.written)


def finished(node: Node, form: Form) -> Node:
    """The tree without what says nothing, each list in its order."""
    value = node.value
    if isinstance(form, Table) and isinstance(value, dict):
        return node.at(_finished_table(value, form))
    if isinstance(value, dict) and form is not ANYTHING:
        return node.at(
            {
                key: finished(child, form.child(key) or ANYTHING)
                for key, child in value.items()
                if child.value is not None or _keeps_null(form)
            }
        )
    if isinstance(value, list) and form is not ANYTHING:
        entries = [finished(entry, form.child("") or ANYTHING) for entry in value]
        if getattr(form, "in_order", False):
            entries.sort(key=lambda entry: str(entry.value))
        return node.at(entries)
    return node


def _finished_table(value: dict[str, Node], form: Table) -> dict[str, Node]:
    found = {}
    for key, child in value.items():
        inner = form.child(key) or ANYTHING
        done = finished(child, inner)
        if not inner.is_left_out(done):
            found[key] = done
    return found


def _keeps_null(form: Form) -> bool:
    return isinstance(form, Entries) and (form.null_keeps or form.form.keeps_null)
