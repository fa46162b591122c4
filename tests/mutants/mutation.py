"""A mutation: one deliberate bug, named by its function and source text, and how it gets in.

The bug is put in while the module is imported (`install`), in a process of its own: no file of the
checkout changes. Line numbers are no part of it, so edits elsewhere in the module do not matter.
"""

import ast
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

import msgspec

ROOT = Path(__file__).parents[2]


class Mutation(msgspec.Struct, frozen=True):
    """In `function` of `module`, the `nth` occurrence of `old` becomes `new`."""

    module: str
    function: str
    """`Class.method` or `function`; empty: the module's own statements."""
    old: str
    new: str
    nth: int = 0

    @property
    def name(self) -> str:
        """The same as long as the function and the text stay as they are."""
        where = f"{self.module}:{self.function}"
        return f"{where}: {_line(self.old)} -> {_line(self.new)}" + (
            f" #{self.nth}" if self.nth else ""
        )


class Lost(Exception):
    """The function or the text is not there any more: the mutation has to be renewed."""


def path_of(module: str) -> Path:
    """The file of a module of this checkout."""
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


def mutated(source: str, mutation: Mutation) -> str:
    """The module's source with the bug in it. Raises Lost."""
    start, end = _span(source, mutation.function)
    body = source[start:end]
    at = -1
    for _ in range(mutation.nth + 1):
        at = body.find(mutation.old, at + 1)
        if at < 0:
            raise Lost(mutation.name)
    body = body[:at] + mutation.new + body[at + len(mutation.old) :]
    return source[:start] + body + source[end:]


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Functions and methods by qualified name."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{node.name}.{item.name}", item


def offsets(source: str) -> list[int]:
    """Where each line begins."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


def _span(source: str, function: str) -> tuple[int, int]:
    if not function:
        return 0, len(source)
    starts = offsets(source)
    for name, node in functions(ast.parse(source)):
        if name == function:
            return starts[node.lineno - 1], starts[node.end_lineno or node.lineno]
    raise Lost(f"there is no function {function}")


def install(mutation: Mutation) -> None:
    """Let this process import the module with the bug in it."""
    sys.meta_path.insert(0, _Finder(mutation))


class _Finder(MetaPathFinder):
    def __init__(self, mutation: Mutation) -> None:
        self._mutation = mutation

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname != self._mutation.module:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None:
            return None
        loader = _Loader(fullname, spec.origin, self._mutation)
        return importlib.util.spec_from_file_location(fullname, spec.origin, loader=loader)


class _Loader(SourceFileLoader):
    def __init__(self, fullname: str, path: str, mutation: Mutation) -> None:
        super().__init__(fullname, path)
        self._mutation = mutation

    def get_code(self, fullname: str) -> CodeType:
        source = Path(self.path).read_text(encoding="utf-8")
        return compile(mutated(source, self._mutation), self.path, "exec", dont_inherit=True)


def _line(text: str) -> str:
    return " ".join(text.split()) or "nothing"
