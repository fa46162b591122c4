"""What a form needs to read a value: where relative paths start, what is reported. PURE."""

import posixpath
from collections.abc import Callable
from typing import Any

from compose.report import Report
from compose.text.words import go_text
from compose.tree import Node, Path, named
from pyswarm_core.errors import InvalidArgument, quoted


class WrittenPath(str):
    """An absolute path that the model shows otherwise."""

    __slots__ = ("shown",)

    def __new__(cls, full: str, shown: str) -> "WrittenPath":
        """The path, and what the model shows."""
        made = super().__new__(cls, full)
        made.shown = shown
        return made

    shown: str


class Reading:
    """One file under way."""

    def __init__(
        self,
        report: Report,
        directory: str,
        home: str,
        *,
        keeps_variables: bool = False,
        shown_from: str = "",
    ) -> None:
        """With `shown_from` paths are remembered as they are written from there."""
        self.report = report
        self._shown_from = shown_from
        self._keeps_variables = keeps_variables
        self.directory = directory
        """Where relative paths start: absolute."""
        self._home = home

    def is_open(self, value: Any) -> bool:
        """Whether a value has variables that stay, so that its form does not show."""
        return self._keeps_variables and isinstance(value, str) and "$" in value

    def refuse(self, node: Node, at: Path, expected: str) -> Node | None:
        """A value that its key cannot have, and what it can have. Returns None."""
        value = node.value
        shown = named(value) if value is None or isinstance(value, dict | list) else _shown(node)
        self.report.fault(node, at, f"{shown} is not valid: expected {expected}")
        return None

    def parsed(self, node: Node, at: Path, parse: Callable[[str], Any], text: str) -> Any:
        """What a parser makes of a text; None after a fault."""
        try:
            return parse(text)
        except InvalidArgument as error:
            reason = error.reason or str(error)
            self.refuse(node, at, reason.removeprefix("expected "))
            return None

    def resolved(self, path: str) -> str:
        """An absolute path; `~` is the home directory. An absolute path stays as it is written."""
        full = path
        if path.startswith("~"):
            full = posixpath.normpath(f"{self._home}/{path[1:]}")
        elif not path.startswith("/"):
            full = posixpath.normpath(posixpath.join(self.directory, path))
        if not self._shown_from:
            return full
        is_own = path[:1] in ("~", "/") or self.directory == self._shown_from
        return WrittenPath(full, path if is_own else posixpath.relpath(full, self._shown_from))


def _shown(node: Node) -> str:
    text = isinstance(node.value, str)
    return quoted(node.value) if text else node.written or go_text(node.value)
