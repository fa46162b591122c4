"""Projects as people have them load as the reference loads them (tests/fixtures/projects)."""

import json
from pathlib import Path
from typing import Any

import pytest

from compose.dump import as_json, as_yaml
from compose.files import Disk
from compose.model import Loaded, load
from compose.projects import Request
from tests.fixtures.composing import HOME, expected

PROJECTS = Path(__file__).parents[2] / "fixtures" / "projects"
NAMES = sorted(path.name for path in PROJECTS.iterdir() if path.is_dir())


def opened(name: str) -> Loaded:
    case: dict[str, Any] = {}
    if (path := PROJECTS / name / "case.json").exists():
        case = json.loads(path.read_text(encoding="utf-8"))
    request = Request(
        directory=str(PROJECTS / name),
        home=HOME,
        environ={"HOME": HOME, **case.get("env", {})},
        files=tuple(case.get("files", ())),
        profiles=tuple(case.get("profiles", ())),
        project_name=case.get("project", ""),
    )
    return load(request, Disk())


@pytest.mark.parametrize("name", NAMES)
def test_a_project_has_the_reference_s_model(name: str) -> None:
    text = (PROJECTS / f"{name}.expected.json").read_text(encoding="utf-8")
    assert opened(name).model == expected(json.loads(text), str(PROJECTS / name))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_printed_of_a_project_loads_as_the_same_model(name: str, tmp_path: Path) -> None:
    found = opened(name)
    for number, text in enumerate((as_yaml(found.model), as_json(found.model))):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text, encoding="utf-8")
        request = Request(
            directory=str(PROJECTS / name), home=HOME, files=(str(path),), profiles=("*",)
        )
        assert load(request, Disk()).model == found.model
