"""The house's sizes and habits, held by reading the checkout itself."""

import ast
import gc
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.fixtures.source import PACKAGES, PROGRAMS, ROOT, Source, sources, text_files

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 50
MAX_POSITIONAL = 5
# Twelve is the aim.
MAX_FOLDER_FILES = 16
# The shared vocabulary is flat on purpose: one import path for a word.
FLAT_FOLDERS = {"pyswarm_core": 24}

VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "types", "base_utils"}
ENTRIES = {"cli.start"}

PRODUCT = sources(*PACKAGES)
EVERYTHING = PRODUCT + sources(*PROGRAMS)


@pytest.fixture(autouse=True, scope="module")
def uncollected() -> Iterator[None]:
    """The trees of all files are kept: collections would look at millions of objects."""
    gc.disable()
    yield
    gc.enable()


def _violations(found: list[str]) -> None:
    if found:
        pytest.fail("\n  ".join(["", *found]), pytrace=False)


def test_no_file_is_longer_than_500_lines() -> None:
    lengths = [(source.name, len(source.text.splitlines())) for source in EVERYTHING]
    _violations([f"{name}: {n} lines" for name, n in lengths if n > MAX_FILE_LINES])


def test_no_function_is_longer_than_50_lines() -> None:
    found = []
    for source in EVERYTHING:
        for function in source.functions():
            length = (function.end_lineno or function.lineno) - function.lineno + 1
            if length > MAX_FUNCTION_LINES:
                found.append(f"{source.name}:{function.lineno}: {function.name} has {length} lines")
    _violations(found)


def test_no_function_takes_more_than_five_positional_parameters() -> None:
    found = []
    for source in PRODUCT:
        for function in source.functions():
            names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
            count = len(names) - (names[:1] in (["self"], ["cls"]))
            if count > MAX_POSITIONAL:
                found.append(f"{source.name}:{function.lineno}: {function.name} takes {count}")
    _violations(found)


def test_every_module_says_what_it_is() -> None:
    silent = [s.name for s in EVERYTHING if s.text.strip() and not s.docstring]
    _violations([f"{name}: no module docstring" for name in silent])


def test_every_public_function_of_the_packages_has_a_contract() -> None:
    found = []
    for source in PRODUCT:
        for node in source.tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                public = not node.name.startswith("_") and not _is_explained(node)
                if public and not ast.get_docstring(node):
                    found.append(f"{source.name}:{node.lineno}: {node.name} has no docstring")
    _violations(found)


def _is_explained(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    # What click prints as help is given to its decorator; the contract of several overloads is the
    # implementation's.
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    return "overload" in decorators or any("help=" in text for text in decorators)


def test_folders_stay_small_enough_to_read() -> None:
    counts = Counter(
        source.path.parent.relative_to(ROOT).as_posix()
        for source in PRODUCT
        if not source.is_package
    )
    _violations(
        [
            f"{folder}: {n} files"
            for folder, n in counts.items()
            if n > FLAT_FOLDERS.get(folder, MAX_FOLDER_FILES)
        ]
    )


def test_no_module_has_a_name_that_means_nothing() -> None:
    vague = [s.name for s in EVERYTHING if s.module.rpartition(".")[2] in VAGUE]
    _violations([f"{name}: name it for its idea" for name in vague])


def test_proto_is_no_package() -> None:
    # An installed library owns the import name "proto"; a folder without __init__ never shadows it.
    assert not list((ROOT / "proto").rglob("__init__.py"))


def test_nothing_is_unfinished_by_its_own_words() -> None:
    marks = tuple("".join(pair) for pair in (("TO", "DO"), ("FIX", "ME"), ("XX", "X:")))
    _violations(
        [
            f"{source.name}:{number}: {line.strip()}"
            for source in EVERYTHING
            for number, line in enumerate(source.text.splitlines(), 1)
            if any(mark in line for mark in marks)
        ]
    )


def test_no_file_names_this_machine_or_a_package_index() -> None:
    banned = tuple(
        "".join(parts) for parts in (("/wo", "rk/"), ("file", ":///opt"), ("index", "-url"))
    )
    found = []
    for path in text_files():
        text = path.read_text(errors="replace")
        found += [f"{path.relative_to(ROOT)}: {word}" for word in banned if word in text]
    _violations(found)


def test_every_module_is_reached_from_an_entry_point_or_a_test() -> None:
    by_module = {source.module: source for source in EVERYTHING}
    roots = [
        source
        for source in EVERYTHING
        if source.module in ENTRIES
        or source.module.endswith("__main__")
        or source.name.startswith(PROGRAMS)
    ]
    reached = _reached(roots, by_module)
    dead = [s.name for s in PRODUCT if s.module not in reached and not s.is_package]
    _violations([f"{name}: nobody imports it" for name in dead])


def _reached(roots: list[Source], by_module: dict[str, Source]) -> set[str]:
    reached: set[str] = set()
    waiting = list(roots)
    while waiting:
        source = waiting.pop()
        if source.module in reached:
            continue
        reached.add(source.module)
        names = [name for _, name in source.imports()]
        for name in [*names, *source.named_modules()]:
            waiting += [by_module[found] for found in _prefixes(name) if found in by_module]
    return reached


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
