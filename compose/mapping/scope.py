"""The model under way: names, labels, places, files, and what is reported. PURE."""

from collections.abc import Callable
from typing import Any, TypeVar

from compose.keys.toplevel import OBJECTS
from compose.mapping.mapped import LocalBind, Options, Upload
from compose.model import Loaded
from compose.projects import Files
from compose.report import Remark, Report
from compose.tree import Node, Path, shown_path
from pyswarm_core.errors import InvalidArgument, quoted
from pyswarm_core.stacks import labels
from pyswarm_core.stacks.spec import StackPayload

T = TypeVar("T")
PYSWARM = "x-pyswarm"
"""The key of a map that has pyswarm's own keys."""


class Scope:
    """One mapping."""

    def __init__(self, loaded: Loaded, options: Options, files: Files) -> None:
        self.options, self.files = options, files
        self.report = Report()
        self.stack: str = loaded.model["name"]
        self.directory, self.variables = loaded.directory, loaded.variables
        self.services = {
            name: Service(self, name, node) for name, node in loaded.tree.items("services")
        }
        self.objects = {section: dict(loaded.tree.items(section)) for section in OBJECTS}
        self.made_configs: dict[str, StackPayload] = {}
        """Configs that single files became, by name."""
        self.uploads: dict[str, Upload] = {}
        """By the name of the volume."""

    def named(self, section: str, key: str) -> str:
        """The full name of a network, volume, secret or config."""
        entry = self.objects[section].get(key)
        return (entry.text("name") if entry is not None else "") or f"{self.stack}_{key}"

    def externals(self) -> dict[tuple[str, str], Remark]:
        """What is not the stack's, by kind and full name, and where it is declared."""
        return {
            (section.removesuffix("s"), self.named(section, key)): Remark(
                node.place, shown_path((section, key)), ""
            )
            for section, entries in self.objects.items()
            for key, node in entries.items()
            if node.get("external") is not None
        }

    def paths(self) -> dict[str, tuple[str, str]]:
        """The kind and full name of each object, by its path."""
        found = {shown_path(one.path): ("service", one.full) for one in self.services.values()}
        for section, entries in self.objects.items():
            for key in entries:
                named = section.removesuffix("s"), self.named(section, key)
                found[shown_path((section, key))] = named
        return found

    def labels(self, node: Node | None = None, **own: str) -> dict[str, str]:
        """The labels of an object, whose user's are those of the node."""
        written = {key: str(value.value) for key, value in node.items()} if node else {}
        return {**written, **labels.of_stack(self.stack), **own}

    def parsed(self, node: Node, at: Path, parse: Callable[[str], T], text: str) -> T | None:
        """What a parser makes of a text; None after a fault."""
        try:
            return parse(text)
        except InvalidArgument as error:
            reason = error.reason or str(error)
            self.report.fault(node, at, f"{quoted(node.value)} is not valid: {reason}")
            return None

    def own_keys(self, node: Node, at: Path, *known: str) -> dict[str, Node]:
        """The keys of `x-pyswarm` in a map. Others are faults."""
        own = node.get(PYSWARM)
        if own is None:
            return {}
        expected = f"expected a map with {' or '.join(known)}" if known else "expected none here"
        if not own.is_map or not known:
            self.report.fault(own, (*at, PYSWARM), expected)
            return {}
        for key, child in own.value.items():
            if key not in known:
                self.report.fault(child, (*at, PYSWARM, key), f"no such key: {expected}")
        return {key: child for key, child in own.value.items() if key in known}


class Service:
    """A service of the file."""

    def __init__(self, scope: Scope, short: str, node: Node) -> None:
        self.scope, self.short, self.node = scope, short, node
        self.full = f"{scope.stack}_{short}"
        self.path: Path = ("services", short)
        self.local_binds: list[LocalBind] = []

    def at(self, *keys: str | int) -> Path:
        """The path of what is below the service."""
        return (*self.path, *keys)

    def get(self, *keys: str) -> Node | None:
        """The value of a key."""
        return self.node.get(*keys)

    def value(self, *keys: str) -> Any:
        """The plain value of a key that has no values below it."""
        found = self.node.get(*keys)
        return None if found is None else found.value

    def texts(self, *keys: str) -> tuple[str, ...]:
        """The texts of a list."""
        return tuple(one.value for one in self.node.list(*keys))

    def fault(self, where: Node | None, keys: Path, text: str) -> None:
        """Report what cannot be mapped."""
        self.scope.report.fault(where, self.at(*keys), text)

    def notice(self, where: Node | None, keys: Path, text: str) -> None:
        """Report what its author may not expect."""
        self.scope.report.notice(where, self.at(*keys), text)

    def parsed(self, keys: Path, parse: Callable[[str], T]) -> T | None:
        """What a parser makes of the text of a key; None if there is none, or after a fault."""
        node = self.node.get(*(str(key) for key in keys))
        if node is None:
            return None
        return self.scope.parsed(node, self.at(*keys), parse, str(node.value))
