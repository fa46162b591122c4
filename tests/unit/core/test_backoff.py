"""Pauses between attempts: the first, how they grow, and the last."""

from pyswarm_core.clock import Backoff


def taken(backoff: Backoff, count: int) -> list[float]:
    return [backoff.next_s() for _ in range(count)]


def test_the_last_pause_repeats() -> None:
    assert taken(Backoff(0.2, 1.0, 5.0), 5) == [0.2, 1.0, 5.0, 5.0, 5.0]


def test_pauses_double_up_to_the_longest() -> None:
    assert taken(Backoff.doubling(1.0, 5.0), 5) == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_an_attempt_that_succeeds_begins_with_the_first_pause_again() -> None:
    backoff = Backoff.doubling(0.1, 2.0)
    taken(backoff, 3)
    backoff.reset()
    assert backoff.next_s() == 0.1
