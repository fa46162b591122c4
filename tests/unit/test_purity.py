"""Deciding is pure: what a module whose docstring says PURE may import, call and iterate.

A pure module imports values and other pure modules only, so purity cannot leak in through a third
one. Sets are never iterated where order shows: strings hash differently in every process, and two
controllers would decide differently.
"""

import ast
from collections.abc import Iterator

import pytest

from tests.fixtures.source import PACKAGES, ROOT, Source, sources

BANNED_MODULES = frozenset(
    "asyncio concurrent grpc logging multiprocessing os prometheus_client pyroute2 random secrets "
    "shutil socket subprocess tempfile threading time uuid".split()
)
BANNED_CALLS = frozenset(
    "open print input exec eval compile __import__ breakpoint id hash globals vars".split()
)
# Asks for the present, or for chance.
BANNED_ATTRIBUTES = frozenset({"now", "utcnow", "today", "default_rng"})
BANNED_RECEIVERS = frozenset({"datetime", "datetime.datetime", "date", "np.random", "numpy.random"})
# A path is a value until somebody looks at what is there.
PATH_METHODS = frozenset(
    "chmod cwd exists expanduser glob home is_dir is_file is_symlink iterdir lstat mkdir open "
    "read_bytes read_text readlink rename resolve rglob rmdir samefile stat symlink_to touch "
    "unlink write_bytes write_text".split()
)

# A value of these calls does not depend on the order of what it is given.
ORDERLESS = frozenset({"sorted", "any", "all", "sum", "len", "min", "max", "set", "frozenset"})
ORDERED = frozenset({"list", "tuple", "enumerate", "iter", "zip", "map", "filter", "reversed"})
SET_METHODS = frozenset({"union", "intersection", "difference", "symmetric_difference"})
INT_SETS = ("set[int]", "frozenset[int]", "set[Slot]", "frozenset[Slot]")

EVERY = {source.module: source for source in sources(*PACKAGES)}
PURE = [source for source in EVERY.values() if source.is_pure]


def test_some_modules_are_pure() -> None:
    assert len(PURE) > 10


@pytest.mark.parametrize("source", PURE, ids=lambda source: source.module)
def test_pure_module_imports_only_values_and_pure_modules(source: Source) -> None:
    found = []
    for line, name in source.imports():
        target = EVERY.get(name) or EVERY.get(name.rpartition(".")[0])
        if name.partition(".")[0] in BANNED_MODULES:
            found.append(f"{source.name}:{line}: imports {name}")
        elif target and not target.is_package and not target.is_pure:
            found.append(f"{source.name}:{line}: imports {target.module}, which is not PURE")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("source", PURE, ids=lambda source: source.module)
def test_pure_module_calls_nothing_that_asks_the_world(source: Source) -> None:
    has_paths = any(name.startswith("pathlib") for _, name in source.imports())
    found = [
        f"{source.name}:{node.lineno}: calls {ast.unparse(node.func)}"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and _asks_the_world(node.func, has_paths=has_paths)
    ]
    assert not found, "\n".join(found)


def _asks_the_world(called: ast.expr, *, has_paths: bool) -> bool:
    if isinstance(called, ast.Name):
        return called.id in BANNED_CALLS
    if not isinstance(called, ast.Attribute):
        return False
    if has_paths and called.attr in PATH_METHODS:
        return True
    receiver = ast.unparse(called.value)
    return called.attr in BANNED_ATTRIBUTES and receiver in BANNED_RECEIVERS


@pytest.mark.parametrize("source", PURE, ids=lambda source: source.module)
def test_pure_module_never_shows_the_order_of_a_set(source: Source) -> None:
    found = [f"{source.name}:{line}: iterates a set: {text}" for line, text in _unordered(source)]
    assert not found, "\n".join(found) + "\nsort it, or keep a dict or a list"


def test_the_set_rule_sees_what_it_should() -> None:
    source = Source(ROOT / "tests/fixtures/unordered.txt")
    flagged = {line for line, _ in _unordered(source)}
    lines = source.text.splitlines()
    assert flagged == {n for n, line in enumerate(lines, 1) if line.endswith("# flagged")}


def _unordered(source: Source) -> Iterator[tuple[int, str]]:
    """Line and text of each iteration over a set where the order could show."""
    attributes = _declared_sets(source.tree, attributes=True)
    functions = list(source.functions())
    inner = {id(node) for f in functions for child in f.body for node in ast.walk(child)}
    outside = [node for node in ast.walk(source.tree) if id(node) not in inner]
    yield from _in_scope(outside, attributes | _declared_sets(source.tree, attributes=False))
    for function in functions:
        if id(function) not in inner:
            known = attributes | _declared_sets(function, attributes=False)
            yield from _in_scope(list(ast.walk(function)), known)


def _in_scope(nodes: list[ast.AST], known: set[str]) -> Iterator[tuple[int, str]]:
    harmless = _orderless_generators(nodes)
    for node in nodes:
        for iterated in _iterated(node):
            if id(node) not in harmless and _is_set(iterated, known):
                yield iterated.lineno, ast.unparse(iterated)


def _orderless_generators(nodes: list[ast.AST]) -> set[int]:
    return {
        id(argument)
        for node in nodes
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ORDERLESS
        for argument in node.args
    }


def _iterated(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.For):
        yield node.iter
    elif isinstance(node, ast.ListComp | ast.DictComp | ast.GeneratorExp):
        yield from (generator.iter for generator in node.generators)
    elif isinstance(node, ast.Starred):
        yield node.value
    elif isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in ORDERED:
            yield from node.args
        elif isinstance(node.func, ast.Attribute):
            if node.func.attr == "pop" and not node.args:
                yield node.func.value
            elif node.func.attr == "join":
                yield from node.args


def _is_set(node: ast.expr, known: set[str]) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.Name | ast.Attribute):
        return ast.unparse(node) in known
    if isinstance(node, ast.BinOp) and isinstance(
        node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor
    ):
        return _is_set(node.left, known) or _is_set(node.right, known) or _is_keys(node.left)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name):
            return node.func.id in ("set", "frozenset")
        return isinstance(node.func, ast.Attribute) and node.func.attr in SET_METHODS
    return False


def _is_keys(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".keys", ".items"))


def _declared_sets(scope: ast.AST, *, attributes: bool) -> set[str]:
    """Names, or self's attributes, that hold sets whose order differs between processes."""
    node_type = ast.Attribute if attributes else ast.Name
    known: set[str] = set()
    for node in ast.walk(scope):
        if isinstance(node, ast.arg) and node.annotation and not attributes:
            if _is_set_type(ast.unparse(node.annotation)):
                known.add(node.arg)
        elif isinstance(node, ast.AnnAssign):
            if isinstance(node.target, node_type) and _is_set_type(ast.unparse(node.annotation)):
                known.add(ast.unparse(node.target))
        elif isinstance(node, ast.Assign) and _is_set(node.value, known):
            known.update(ast.unparse(t) for t in node.targets if isinstance(t, node_type))
    return known


def _is_set_type(annotation: str) -> bool:
    return (
        annotation.startswith(("set", "frozenset", "AbstractSet", "Set["))
        and annotation not in INT_SETS
    )
