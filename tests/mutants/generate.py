"""Mutations made mechanically, at sites drawn by a fixed seed.

Four kinds: a comparison flipped, a condition dropped, a constant times ten, a call removed. A site
is drawn by the hash of what it is, so that a change of the code elsewhere draws no others.
"""

import ast
from collections.abc import Callable, Iterator
from hashlib import blake2b

from tests.mutants.mutation import ROOT, Mutation, functions, offsets, path_of

SEED = 7
OF_EACH_KIND = 12
BRAIN = (
    "controller/brain/decide.py",
    "controller/brain/draft.py",
    "controller/brain/placing.py",
    "controller/brain/demands.py",
    "controller/brain/volumes.py",
    "controller/brain/revisions.py",
    "pyswarm_core/indexes/rollout.py",
    "controller/brain/dependencies/*.py",
    "controller/brain/liveness/silence.py",
    "controller/brain/liveness/calibration.py",
    "controller/brain/orchestrator/*.py",
    "controller/brain/scheduler/*.py",
    "controller/brain/allocator/*.py",
)
TASK_MACHINE = (
    "agent/tasks/machine.py",
    "agent/tasks/serving.py",
    "agent/tasks/stopping.py",
    "agent/tasks/ending.py",
    "agent/tasks/reconcile.py",
    "agent/tasks/record.py",
    "agent/health/verdict.py",
    "agent/health/effective.py",
)
LIMITS = "pyswarm_core.limits"
KINDS = ("comparison", "condition", "constant", "call")

_FLIPPED: dict[type[ast.cmpop], str] = {
    ast.Lt: ">=",
    ast.GtE: "<",
    ast.Gt: "<=",
    ast.LtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
_COMPOUND = (ast.If, ast.For, ast.While, ast.With, ast.Match, ast.Try)

Site = tuple[str, Mutation]
_Span = Callable[[ast.stmt | ast.expr], tuple[int, int]]
_Edit = tuple[str, int, int, str]
"""A kind, and what to put between two offsets."""


def modules() -> list[str]:
    """The modules under test, by name."""
    found = [path for pattern in (*BRAIN, *TASK_MACHINE) for path in sorted(ROOT.glob(pattern))]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in found]
    return [name for name in names if not name.endswith("__init__")]


def drawn(count: int = OF_EACH_KIND) -> list[Mutation]:
    """So many of each kind."""
    by_kind: dict[str, list[Mutation]] = {kind: [] for kind in KINDS}
    for kind, mutation in sites():
        by_kind[kind].append(mutation)
    return [one for kind in KINDS for one in sorted(by_kind[kind], key=_lot)[:count]]


def _lot(mutation: Mutation) -> bytes:
    return blake2b(f"{SEED} {mutation.name}".encode(), digest_size=8).digest()


def sites() -> Iterator[Site]:
    """Every site of every kind."""
    used: set[str] = set()
    for module in modules():
        source = path_of(module).read_text(encoding="utf-8")
        tree = ast.parse(source)
        used |= _limits_of(tree)
        yield from _constants(module, source, tree, None)
        for name, function in functions(tree):
            yield from _of_function(module, source, name, function)
    source = path_of(LIMITS).read_text(encoding="utf-8")
    yield from _constants(LIMITS, source, ast.parse(source), used)


def _limits_of(tree: ast.Module) -> set[str]:
    imports = (node for node in tree.body if isinstance(node, ast.ImportFrom))
    return {name.name for node in imports if node.module == LIMITS for name in node.names}


def _constants(module: str, source: str, tree: ast.Module, only: set[str] | None) -> Iterator[Site]:
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if not isinstance(node, ast.Assign) or not isinstance(target, ast.Name):
            continue
        if only is not None and target.id not in only:
            continue
        if target.id.strip("_").isupper() and _is_number(node.value):
            old = ast.get_source_segment(source, node) or ""
            value = ast.get_source_segment(source, node.value) or ""
            yield "constant", Mutation(module, "", old, f"{target.id} = 10 * ({value})")


def _is_number(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return _is_number(node.left) and _is_number(node.right)
    number = isinstance(node, ast.Constant) and type(node.value) in (int, float)
    return number or (isinstance(node, ast.Name) and node.id.isupper())


def _of_function(
    module: str, source: str, name: str, function: ast.FunctionDef | ast.AsyncFunctionDef
) -> Iterator[Site]:
    starts = offsets(source)
    lines = source.splitlines(keepends=True)

    def at(line: int, column: int) -> int:
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    def span(node: ast.stmt | ast.expr) -> tuple[int, int]:
        return (
            at(node.lineno, node.col_offset),
            at(node.end_lineno or node.lineno, node.end_col_offset or 0),
        )

    body_start = at(function.lineno, 0)
    for statement in _statements(function.body):
        begin, end = span(statement)
        if isinstance(statement, _COMPOUND):
            inner = statement.cases[0].pattern if isinstance(statement, ast.Match) else None
            end = span(statement.body[0])[0] if inner is None else end  # type: ignore[union-attr]
        for kind, first, last, new in _edits(statement, source, span):
            if not begin <= first <= last <= end:
                continue
            old = source[begin:end].rstrip()
            changed = (source[begin:first] + new + source[last:end]).rstrip()
            nth = source[body_start:begin].count(old)
            yield kind, Mutation(module, name, old, changed, nth)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            continue
        yield statement
        for field in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(statement, field, []))
        for case in getattr(statement, "cases", []):
            yield from _statements(case.body)


def _edits(statement: ast.stmt, source: str, span: _Span) -> Iterator[_Edit]:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        yield ("call", *span(statement), "pass")
    if isinstance(statement, ast.If | ast.While):
        yield ("condition", *span(statement.test), "True")
    for node in _own(statement):
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            sides = (_text(one, source, span) for one in (node.left, node.comparators[0]))
            yield ("comparison", *span(node), f" {_FLIPPED[type(node.ops[0])]} ".join(sides))
        elif isinstance(node, ast.BoolOp):
            for index in range(len(node.values)):
                rest = [v for i, v in enumerate(node.values) if i != index]
                word = " and " if isinstance(node.op, ast.And) else " or "
                left = word.join(_text(one, source, span) for one in rest)
                yield ("condition", *span(node), left)
        elif isinstance(node, ast.IfExp):
            yield ("condition", *span(node.test), "True")
        elif isinstance(node, ast.comprehension):
            for test in node.ifs:
                yield ("condition", *span(test), "True")


def _text(node: ast.expr, source: str, span: _Span) -> str:
    text = source[slice(*span(node))]
    return f"({text})" if isinstance(node, ast.NamedExpr | ast.BoolOp | ast.IfExp) else text


def _own(statement: ast.stmt) -> Iterator[ast.AST]:
    """The statement's expressions, without those of statements in its body."""
    for child in ast.iter_child_nodes(statement):
        if not isinstance(child, ast.stmt | ast.match_case | ast.ExceptHandler):
            yield from ast.walk(child)
