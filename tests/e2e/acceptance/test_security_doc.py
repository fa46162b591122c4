"""docs/security.md is true: its commands, executed in order, print what the page shows.

Commands with `--context` or a token run on the hosts' network, as on a machine of their user.
"""

from pathlib import Path

import pytest

from tests.e2e.acceptance.documents import require_true
from tests.e2e.acceptance.fleet import IMAGE, PATIENT, ROOT, Fleet

pytestmark = pytest.mark.slow

ENVIRONMENT = PATIENT


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """It loses a host, its CA is replaced and its controller is locked."""
    own_fleet("service", "create", "--name", "web", "--replicas", "2", IMAGE)
    return own_fleet


@pytest.mark.timeout(900)
def test_every_command_of_the_page_prints_what_the_page_shows(fleet: Fleet, tmp_path: Path) -> None:
    require_true(ROOT / "docs/security.md", fleet, tmp_path)
