"""What the documents name exists: files, functions, tests, metrics, commands and their flags."""

import ast
import re
import shlex
from collections.abc import Iterator
from configparser import ConfigParser
from functools import cache
from pathlib import Path

import click
import pytest

from agent.stats.families import FAMILIES, PREFIX
from cli.main import root
from tests.fixtures.source import PACKAGES, ROOT, sources

DOCUMENTS = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "tests/README.md")),
]
_TEST = re.compile(r"`([\w/]+/test_\w+\.py)::(\w+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_PATH = re.compile(r"`((?!/)[\w./-]+(?:\.(?:py|md|toml|proto|yaml|sh)|/))`")
_SYMBOL = re.compile(r"`((?!.*/test_)[\w/]+\.py)::([\w.]+)`")
_METRIC = re.compile(r"pyswarm_((?:agent|controller|container)_\w+)")
_LOG_EVENT = re.compile(r"`((?:endpoints|host|network|object|state|status)\.[a-z_]+)`")
_MAKE = re.compile(r"`make ([a-z0-9-]+)")
_MODULE = re.compile(r"python -m ([\w.]+)((?: [\w-]+)*)")
_PLACEHOLDER = re.compile(r"\b(?:NOUN|VERB|NNNN)\b")
_CODE_LINE = re.compile(r"(?:^|[;$] ?|--while )(?:\.venv/bin/)?pyswarm (.+)")
_NOUN = r"(?:service|node|network|swarm|image|playground|net|context) "
_IN_LINE = re.compile(rf"`(?:(?:\.venv/bin/)?pyswarm |(?={_NOUN}))([^`\n]+)`")
CONTAINER_METRICS = {
    f"{PREFIX}{family.name}{'_total' if family.is_counter else ''}": family.labels
    for family in FAMILIES
}
"""The labels of their own, by name."""
_NO_COMMAND = re.compile(r"…|\.\.\.|\b(?:KIND|NOUN|VERB|NAME|FROM)\b|[◀▶─│]")
"""Of a line that shows a form, not a command."""


@cache
def functions(path: Path) -> frozenset[str]:
    """The names of the functions that a file defines at its top."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    body = ast.parse(path.read_text()).body if path.is_file() else []
    return frozenset(node.name for node in body if isinstance(node, kinds))


def anchors(document: Path) -> set[str]:
    """What a link may name behind `#`, as forges make it of headings."""
    words = [re.sub(r"[^\w\s-]", "", h.lower()) for h in _HEADING.findall(document.read_text())]
    return {word.strip().replace(" ", "-") for word in words}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_test_that_a_document_names_exists(document: Path) -> None:
    named = _TEST.findall(document.read_text())
    lost = [
        f"{file}::{name}" for file, name in named if name not in functions(ROOT / "tests" / file)
    ]
    assert lost == []


def test_every_complaint_is_held_by_a_test() -> None:
    table, _, _ = (ROOT / "docs/complaints.md").read_text().partition("## What is not claimed")
    lines = table.splitlines()
    rows = [line for line in lines if line.startswith("| ")][1:]
    assert len(rows) == 16
    assert [row.split("|")[1].strip() for row in rows if not _TEST.search(row)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    broken = []
    for link in _LINK.findall(document.read_text()):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if "://" in link or (target.exists() and (not anchor or anchor in anchors(target))):
            continue
        broken.append(link)
    assert broken == []


@cache
def names(path: Path) -> frozenset[str]:
    """What a module defines: its functions, classes and values, and `Class.method`."""
    found = set[str]()
    for node in ast.parse(path.read_text()).body if path.is_file() else []:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{inner.name}"
                for inner in node.body
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return frozenset(found)


@cache
def tree() -> tuple[str, ...]:
    """Every file of the checkout, and every directory with a slash at its end."""
    tops = [path for path in ROOT.iterdir() if not path.name.startswith(".")]
    files = [path.relative_to(ROOT) for top in tops for path in (top, *top.rglob("*"))]
    return tuple(f"/{file}/" if (ROOT / file).is_dir() else f"/{file}" for file in files)


@cache
def product() -> str:
    """The source of all packages."""
    return "".join(source.text for source in sources(*PACKAGES))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_a_document_names_exists(document: Path) -> None:
    named = [name for name in _PATH.findall(document.read_text()) if not _PLACEHOLDER.search(name)]
    assert [name for name in named if not any(p.endswith(f"/{name}") for p in tree())] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_function_that_a_document_names_exists(document: Path) -> None:
    named = _SYMBOL.findall(document.read_text())
    assert [f"{file}::{name}" for file, name in named if name not in names(ROOT / file)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_metric_and_log_event_that_a_document_names_exists(document: Path) -> None:
    text = product()
    metrics = (f"pyswarm_{name}" for name in _METRIC.findall(document.read_text()))
    unknown = [
        name
        for name in metrics
        if name not in text
        and f'"{name.removeprefix("pyswarm_controller_")}"' not in text
        and name not in CONTAINER_METRICS
    ]
    unknown += [
        name for name in _LOG_EVENT.findall(document.read_text()) if f'"{name}"' not in text
    ]
    assert unknown == []


def test_the_document_for_operators_lists_every_metric() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    text = text.partition("## Metrics of containers")[0]
    _, controller, agent = re.split(r"^## Metrics of an? ", text, flags=re.MULTILINE)
    listed = [set(re.findall(r"`(\w+)(?:\{[\w,]+\})?`", part)) for part in (controller, agent)]
    for program, names_listed in zip(("controller", "agent"), listed, strict=True):
        source = (ROOT / program / "metrics.py").read_text()
        full = re.findall(rf'"pyswarm_{program}_(\w+)"', source)
        short = re.findall(r'(?:_gauge|_counter|_histogram|_one|_by)\(\s*"(\w+)"', source)
        known = {name.removesuffix("_total") for name in (*full, *short)}
        missing = known - {name.removesuffix("_total") for name in names_listed}
        assert missing == set()
        unknown = {n.removesuffix("_total") for n in names_listed if n != f"pyswarm_{program}_"}
        assert {n for n in unknown - known if not n.startswith("conntrack_")} == set()


def test_the_document_for_operators_lists_every_metric_of_containers() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    _, _, section = text.partition("## Metrics of containers")
    rows = "\n".join(line.split("|")[1] for line in section.splitlines() if "|" in line)
    listed = dict(re.findall(r"`(\w+)(?:\{([\w,]+)\})?`", rows))
    exported = {
        name.removeprefix(PREFIX): ",".join(labels) for name, labels in CONTAINER_METRICS.items()
    }
    assert listed == exported


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_module_that_a_document_runs_exists(document: Path) -> None:
    wrong = []
    for module, words in _MODULE.findall(document.read_text()):
        path = ROOT.joinpath(*module.split("."))
        file = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        flags = [word for word in words.split() if word.startswith("--") and word != "--help"]
        known = file.is_file() and all(f'"{flag}"' in file.read_text() for flag in flags)
        benchmarks = words.split() if module == "bench" and not flags else []
        if not known or not all(list(path.glob(f"{name}*.py")) for name in benchmarks):
            wrong.append(f"python -m {module}{words}")
    assert wrong == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_target_of_make_that_a_document_names_exists(document: Path) -> None:
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(_MAKE.findall(document.read_text())) <= set(targets)


def code_lines(text: str) -> Iterator[str]:
    """The lines of fenced and indented blocks."""
    for number, part in enumerate(text.split("```")):
        for line in part.splitlines():
            if number % 2 or line.startswith("    "):
                yield line.strip()


def commands(document: Path) -> Iterator[str]:
    """The command lines of pyswarm in a document, without `pyswarm`."""
    text = document.read_text()
    found = [match[1] for line in code_lines(text) if (match := _CODE_LINE.search(line))]
    for line in (*found, *_IN_LINE.findall(text)):
        if not _NO_COMMAND.search(line):
            yield re.split(" (?:[<>|]|2>&1) ", line)[0]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_that_a_document_shows_is_understood(
    document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(click.Command, "invoke", lambda command, context: None)
    wrong = []
    for line in commands(document):
        try:
            root.main(shlex.split(line, comments=True), "pyswarm", standalone_mode=False)
        except (click.MissingParameter, click.BadOptionUsage):
            continue  # a command named without its arguments, a flag without its value
        except click.ClickException as error:
            wrong.append(f"{line}: {error.format_message()}")
    assert wrong == []


def test_the_index_lists_every_decision_with_its_title() -> None:
    folder = ROOT / "docs/decisions"
    index = (folder / "README.md").read_text()
    for page in sorted(folder.glob("0*.md")):
        number, title = page.read_text().splitlines()[0].removeprefix("# ").split(": ", 1)
        assert f"| [{number}]({page.name}) | {title} |" in index


def test_the_index_lists_every_document() -> None:
    linked = _LINK.findall((ROOT / "docs/README.md").read_text())
    pages = [path.name for path in sorted((ROOT / "docs").glob("*.md")) if path.stem != "README"]
    assert [name for name in pages if name not in linked] == []
    assert "docs/README.md" in _LINK.findall((ROOT / "README.md").read_text())


def test_every_word_is_defined_once() -> None:
    words = re.findall(r"\*\*([^*]+)\*\*", (ROOT / "docs/nomenclature.md").read_text())
    assert sorted(words) == sorted(set(words))


def test_the_architecture_shows_every_package() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    packages = {
        f"`{package}/{folder.name}/`"
        for package in ("agent", "compose", "controller", "pyswarm_core")
        for folder in (ROOT / package).iterdir()
        if (folder / "__init__.py").exists()
    }
    assert [name for name in sorted(packages) if name not in text] == []


def test_the_architecture_shows_the_layers_of_controller_and_agent() -> None:
    contracts = ConfigParser()
    contracts.read(ROOT / ".importlinter")
    text, _, _ = (ROOT / "docs/architecture.md").read_text().partition("## From the command")
    rows = re.findall(r"^\| \d+ \|(.*)\|(.*)\|$", text, re.MULTILINE)
    for program, column in (("controller", 0), ("agent", 1)):
        layers = contracts[f"importlinter:contract:{program}"]["layers"].split("\n")
        shown = [re.findall(r"\w+", row[column]) for row in rows]
        assert [names_of for names_of in shown if names_of] == [
            re.findall(r"\w+", layer) for layer in layers if layer and layer != "__main__"
        ]
