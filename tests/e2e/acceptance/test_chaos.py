"""A minute of what `make chaos` does for ten."""

import pytest

from tests.chaos.__main__ import break_it, broken, report
from tests.e2e.acceptance.fleet import Fleet

pytestmark = pytest.mark.alone

SECONDS = 60.0
SEED = 1


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """Everything in it is broken."""
    return own_fleet


@pytest.mark.timeout(300)
def test_what_was_requested_runs_and_every_failed_request_is_excused(fleet: Fleet) -> None:
    outcome = break_it(fleet, SECONDS, SEED)
    report(outcome)
    assert not broken(outcome)
