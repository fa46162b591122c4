"""Each fault of `make chaos` once."""

import pytest

from tests.chaos.__main__ import break_it, broken, report
from tests.e2e.acceptance.fleet import Fleet

pytestmark = pytest.mark.alone

SEED = 1


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """Everything in it is broken."""
    return own_fleet


def test_what_was_requested_runs_and_every_failed_request_is_excused(fleet: Fleet) -> None:
    outcome = break_it(fleet, 0, SEED)
    report(outcome)
    found = broken(outcome)
    assert not found, "\n".join(found)
