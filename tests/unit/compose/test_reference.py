"""Small files about one rule each, with what docker compose 5.6.1 `config` makes of them.

tests/fixtures/composed.json and composed_more.json have them; their project directory is /p. Rules
in which pyswarm differs are in test_differences.py.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from compose.dump import as_yaml
from compose.report import Refused
from tests.fixtures.composing import loaded

FIXTURES = Path(__file__).parents[2] / "fixtures"
CASES: list[dict[str, Any]] = [
    case
    for name in ("composed.json", "composed_more.json")
    for case in json.loads((FIXTURES / name).read_text(encoding="utf-8"))
]


def given(case: dict[str, Any]) -> dict[str, Any]:
    return {
        "directory": "/p",
        "environ": case.get("env", {}),
        "files": tuple(case.get("names", ())),
        "profiles": tuple(case.get("profiles", ())),
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_a_file_loads_as_the_reference_loads_it(case: dict[str, Any]) -> None:
    if case.get("refused"):
        with pytest.raises(Refused) as caught:
            loaded(case["files"], **given(case))
        assert all(fault.place is not None for fault in caught.value.faults)
        return
    found = loaded(case["files"], **given(case))
    assert found.model == case["model"]
    again = {**case["files"], "printed.yaml": as_yaml(found.model)}
    printed = loaded(again, directory="/p", files=("printed.yaml",), profiles=("*",))
    assert printed.model == found.model
