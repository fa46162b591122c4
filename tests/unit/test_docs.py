"""What the documents name exists: tests, and the files and headings that links lead to."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.fixtures.source import ROOT

DOCUMENTS = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
_TEST = re.compile(r"`([\w/]+/test_\w+\.py)::(\w+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


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
    lines = (ROOT / "docs/complaints.md").read_text().splitlines()
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
