"""The packages have common names: they must be ours, and no stranger may shadow them."""

import importlib.metadata
import importlib.util
import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.fixtures.source import PACKAGES, ROOT, sources


@pytest.mark.parametrize("package", PACKAGES)
def test_package_resolves_inside_this_checkout(package: str) -> None:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None, f"{package}/__init__.py is missing"
    assert Path(spec.origin).resolve() == ROOT / package / "__init__.py"


def test_we_ship_nothing_called_pyswarm() -> None:
    assert not (ROOT / "pyswarm").exists()


def test_every_library_that_runs_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^\w-]", need)[0].replace("_", "-") for need in project["dependencies"]}
    homes = importlib.metadata.packages_distributions()
    found = []
    for source in sources(*PACKAGES):
        for line, name in source.imports():
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top in PACKAGES:
                continue
            known = {home.lower().replace("_", "-") for home in homes.get(top, ())}
            if not known & declared:
                found.append(f"{source.name}:{line}: {top} is no dependency in pyproject.toml")
    assert not found, "\n".join(found)
