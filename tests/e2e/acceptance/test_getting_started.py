"""docs/getting-started.md is true: its commands, executed in order, print what the page shows."""

from pathlib import Path

import pytest

from tests.e2e.acceptance.documents import require_true
from tests.e2e.acceptance.fleet import ROOT, Fleet

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """It loses a host, and its services have the names that the page gives them."""
    return own_fleet


@pytest.mark.timeout(900)
def test_every_command_of_the_page_prints_what_the_page_shows(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    require_true(ROOT / "docs/getting-started.md", fleet, tmp_path)
