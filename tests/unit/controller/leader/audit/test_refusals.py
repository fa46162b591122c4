"""Which refused requests get a record."""

from controller.leader.audit.refusals import Refusals
from pyswarm_core.clock import MINUTE, Instant
from pyswarm_core.identity.limits import REFUSALS_PER_MINUTE, REFUSED_CALLERS

T0 = Instant(1_000 * MINUTE)


def test_a_caller_gets_so_many_a_minute_and_the_next_counts_the_others() -> None:
    refusals = Refusals()
    got = [refusals.admit("alice", T0, room=True) for _ in range(REFUSALS_PER_MINUTE + 5)]
    assert got == [0] * REFUSALS_PER_MINUTE + [None] * 5
    later = Instant(T0 + MINUTE // REFUSALS_PER_MINUTE)
    assert refusals.admit("alice", later, room=True) == 5
    assert refusals.admit("alice", later, room=True) is None
    assert refusals.admit("bob", later, room=True) == 0


def test_after_a_minute_all_are_there_again() -> None:
    refusals = Refusals()
    for now in (T0, Instant(T0 + MINUTE)):
        got = [refusals.admit("alice", now, room=True) for _ in range(REFUSALS_PER_MINUTE)]
        assert got == [0] * REFUSALS_PER_MINUTE
    assert refusals.admit("alice", Instant(T0 + MINUTE), room=True) is None


def test_without_room_none_is_recorded_and_all_are_counted() -> None:
    refusals = Refusals()
    assert [refusals.admit("alice", T0, room=False) for _ in range(3)] == [None] * 3
    assert refusals.admit("alice", T0, room=True) == 3


def test_callers_that_are_counted_are_bounded() -> None:
    refusals = Refusals()
    for n in range(3 * REFUSED_CALLERS):
        refusals.admit(f"user{n}", T0, room=True)
    assert len(refusals) == REFUSED_CALLERS == 1_000
