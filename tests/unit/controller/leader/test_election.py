"""Who leads: what follows from the key, and for how long a renewal holds."""

from controller.leader.election import (
    Campaign,
    Candidate,
    Follow,
    TakeBack,
    Term,
    decode_candidate,
    encode_candidate,
    holds,
    known_leader,
    may_renew,
    next_move,
    next_ttl,
    renew_at,
    renewed,
    step_down_at,
)
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.limits import LEADER_TTL_MAX, LEADER_TTL_MEMORY, LOOP_SILENCE_MAX

ME = Candidate("me", "one", "192.0.2.1:2377")
OTHER = Candidate("other", "two", "192.0.2.2:2377")
TERM = Term(lease=7, ttl=2 * SECOND, created=5, fence=5, confirmed_at=Instant(10 * SECOND))


def test_nobody_leads_so_it_campaigns() -> None:
    assert next_move(ME, None, 0) == Campaign()


def test_another_leads_so_it_follows() -> None:
    assert next_move(ME, encode_candidate(OTHER), 3) == Follow(OTHER)


def test_its_own_key_of_an_earlier_life_is_taken_back() -> None:
    renamed = Candidate("me", "old name", "192.0.2.9:2377")
    assert next_move(ME, encode_candidate(renamed), 3) == TakeBack(3)


def test_a_key_that_nobody_can_read_is_somebody_elses() -> None:
    assert isinstance(next_move(ME, b"\xff", 3), Follow)
    assert decode_candidate(b"{}").addr == ""


def test_leadership_ends_before_the_store_could_drop_the_lease() -> None:
    assert TERM.confirmed_at < step_down_at(TERM) < TERM.confirmed_at + TERM.ttl
    assert holds(TERM, Instant(step_down_at(TERM) - 1))
    assert not holds(TERM, step_down_at(TERM))


def test_a_renewal_counts_from_when_it_was_sent() -> None:
    sent = Instant(11 * SECOND)
    later = renewed(TERM, sent, 2)
    assert later.confirmed_at == sent
    assert (later.lease, later.fence, later.ttl) == (TERM.lease, TERM.fence, TERM.ttl)


def test_a_late_answer_to_an_early_renewal_shortens_nothing() -> None:
    assert renewed(TERM, Instant(9 * SECOND), 2) == TERM


def test_two_renewals_may_be_lost() -> None:
    between = renew_at(TERM) - TERM.confirmed_at
    assert TERM.confirmed_at + 3 * between <= step_down_at(TERM)


def test_the_next_lease_is_twice_as_long_unless_this_one_was_long_enough() -> None:
    assert next_ttl(2 * SECOND, SECOND) == 4 * SECOND
    assert next_ttl(8 * SECOND, SECOND) == LEADER_TTL_MAX == 16 * SECOND
    assert next_ttl(16 * SECOND, SECOND) == LEADER_TTL_MAX
    assert LEADER_TTL_MEMORY == 600 * SECOND
    assert next_ttl(16 * SECOND, LEADER_TTL_MEMORY - 1) == LEADER_TTL_MAX
    assert next_ttl(16 * SECOND, LEADER_TTL_MEMORY) == 4 * SECOND


def test_a_controller_that_does_not_lead_never_names_itself() -> None:
    assert known_leader(ME.addr, ME.addr, leads=False) == ""
    assert known_leader(ME.addr, ME.addr, leads=True) == ME.addr
    assert known_leader(OTHER.addr, ME.addr, leads=False) == OTHER.addr


def test_a_leader_whose_loop_hangs_is_not_renewed_for_ever() -> None:
    alive_at = Instant(SECOND)
    assert may_renew(alive_at, Instant(alive_at + LOOP_SILENCE_MAX))
    assert not may_renew(alive_at, Instant(alive_at + LOOP_SILENCE_MAX + 1))
