"""Variables of a tree: values, never keys. PURE."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from compose.report import Report
from compose.text.templates import interpolated, occurring
from compose.tree import Node, Path
from pyswarm_core.errors import InvalidArgument


class Interpolation:
    """Replaces variables by their values."""

    def __init__(self, known: Mapping[str, str], report: Report) -> None:
        self._known, self._report = known, report

    def of(self, node: Node, path: Path) -> Node:
        """The tree with its variables replaced; faults are reported."""
        value = node.value
        if isinstance(value, str):
            return self._text(node, path) if "$" in value else node
        if isinstance(value, dict):
            made = {key: self.of(child, (*path, key)) for key, child in value.items()}
            return Node(made, node.place, node.mark, keys=node.keys)
        if isinstance(value, list):
            entries = [self.of(child, (*path, number)) for number, child in enumerate(value)]
            return Node(entries, node.place, node.mark)
        return node

    def _text(self, node: Node, path: Path) -> Node:
        def unset(name: str) -> None:
            # A password or hash with dollar signs is what the author seldom means as a variable.
            hint = "; $$ is a dollar sign" if node.value.count("$") > 1 else ""
            text = f"the variable {name} is not set: nothing takes its place{hint}"
            self._report.warn(node, path, text)

        try:
            return node.at(interpolated(node.value, self._known.get, unset))
        except InvalidArgument as error:
            self._report.fault(node, path, str(error))
            return node.at("")


class Use(NamedTuple):
    """What files say of one of their variables."""

    is_required: bool = False
    default: str = ""
    alternate: str = ""


def templates(node: Node) -> Iterator[str]:
    """The values of a tree that have variables."""
    value = node.value
    if isinstance(value, str) and "$" in value:
        yield value
    parts: Iterable[Node] = value if isinstance(value, list) else ()
    for child in value.values() if isinstance(value, dict) else parts:
        yield from templates(child)


def uses(texts: Iterable[str]) -> dict[str, Use]:
    """The variables of values that have some, by name."""
    found: dict[str, Use] = {}
    for text in texts:
        try:
            variables = occurring(text)
        except InvalidArgument:
            continue
        for one in variables:
            sign, before = one.operator[-1:], found.get(one.name, Use())
            found[one.name] = Use(
                is_required=before.is_required or sign == "?",
                default=before.default or (one.written if sign == "-" else ""),
                alternate=before.alternate or (one.written if sign == "+" else ""),
            )
    return dict(sorted(found.items()))
