"""The four packages have common names: they must be ours, and no stranger may shadow them."""

import importlib.util
from pathlib import Path

import pytest

from tests.fixtures.source import PACKAGES, ROOT


@pytest.mark.parametrize("package", PACKAGES)
def test_package_resolves_inside_this_checkout(package: str) -> None:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None, f"{package}/__init__.py is missing"
    assert Path(spec.origin).resolve() == ROOT / package / "__init__.py"


def test_we_ship_nothing_called_pyswarm() -> None:
    assert not (ROOT / "pyswarm").exists()
