"""Half a minute of what `make attack` does for three."""

import pytest

from tests.attack.__main__ import attack, broken, report
from tests.e2e.acceptance.fleet import Fleet

pytestmark = pytest.mark.alone

SECONDS = 30.0
SEED = 1
SETTLE_S = 10.0


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """It is attacked."""
    return own_fleet


@pytest.mark.timeout(1200)
def test_no_term_is_lost_no_host_goes_down_and_memory_comes_back(fleet: Fleet) -> None:
    outcome = attack(fleet, SECONDS, SEED, SETTLE_S)
    report(outcome)
    found = broken(outcome)
    assert not found, "\n".join(found)
