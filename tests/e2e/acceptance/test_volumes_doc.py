"""docs/volumes.md is true: its commands, executed in order, print what the page shows."""

from pathlib import Path

import pytest

from tests.e2e.acceptance import databases
from tests.e2e.acceptance.documents import require_true
from tests.e2e.acceptance.fleet import IMAGE, ROOT, Fleet
from tests.fixtures.debian import IMAGES_TIMEOUT_S

pytestmark = [pytest.mark.slow, pytest.mark.timeout(IMAGES_TIMEOUT_S)]


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """It loses a host. The page's first task runs on host2, which alone has no other."""
    databases.push(own_fleet)
    where = ("--constraint", "node.hostname==host3")
    own_fleet("service", "create", "--name", "other", *where, IMAGE)
    return own_fleet


def test_every_command_of_the_page_prints_what_the_page_shows(fleet: Fleet, tmp_path: Path) -> None:
    require_true(ROOT / "docs/volumes.md", fleet, tmp_path)
