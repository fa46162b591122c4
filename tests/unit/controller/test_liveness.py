"""Silence is the only verdict, and only silence that we were awake to hear."""

from hypothesis import given
from hypothesis import strategies as st

from controller.liveness import (
    DEAF_AFTER,
    TICK_PERIOD,
    VERDICTS_AT_ONCE,
    Liveness,
    heartbeat_period,
)
from pyswarm_core.clock import NEVER, SECOND, Instant
from pyswarm_core.ids import NodeId
from pyswarm_core.limits import (
    HEARTBEAT_PERIOD_MAX,
    HEARTBEATS_PER_SECOND,
    HELLOS_PER_SECOND,
    LEADER_GRACE,
)

A, B = NodeId("a"), NodeId("b")
PERIOD = SECOND


def at(seconds: float) -> Instant:
    return Instant(int(seconds * SECOND))


def ticked_to(liveness: Liveness, start: float, end: float) -> list[tuple[float, NodeId]]:
    """Tick as the loop does; who was called down when."""
    found = []
    steps = int((end - start) * SECOND // TICK_PERIOD)
    for step in range(1, steps + 1):
        now = Instant(at(start) + step * TICK_PERIOD)
        found += [(now / SECOND, node_id) for node_id in liveness.expired(now)]
    return found


def test_a_node_is_down_after_three_missed_heartbeats() -> None:
    liveness = Liveness(PERIOD, at(0))
    liveness.heard(A, at(0))
    assert ticked_to(liveness, 0, 5) == [(3.0, A)]


def test_a_node_that_is_heard_stays() -> None:
    liveness = Liveness(PERIOD, at(0))
    liveness.heard(A, at(0))
    liveness.heard(B, at(0))
    assert ticked_to(liveness, 0, 2) == []
    liveness.heard(A, at(2))
    assert ticked_to(liveness, 2, 4.5) == [(3.0, B)]


def test_a_verdict_is_passed_once() -> None:
    liveness = Liveness(PERIOD, at(0))
    liveness.heard(A, at(0))
    ticked_to(liveness, 0, 5)
    assert liveness.next_deadline() == NEVER
    assert ticked_to(liveness, 5, 50) == []


def test_a_new_leader_gives_every_node_its_grace() -> None:
    liveness = Liveness(PERIOD, at(0))
    liveness.await_hello([A, B], at(0))
    liveness.heard(A, at(1))
    grace = LEADER_GRACE / SECOND
    assert ticked_to(liveness, 0, grace + 1) == [(4.0, A), (grace, B)]


def test_after_our_own_pause_everyone_gets_a_full_timeout() -> None:
    liveness = Liveness(PERIOD, at(0))
    liveness.heard(A, at(0))
    ticked_to(liveness, 0, 2)
    assert liveness.expired(at(60)) == []
    assert ticked_to(liveness, 60, 62) == []
    assert ticked_to(liveness, 62, 64) == [(63.0, A)]


def test_a_shorter_period_is_lenient_towards_beats_sent_at_the_old_one() -> None:
    liveness = Liveness(4 * SECOND, at(0))
    liveness.heard(A, at(0))
    ticked_to(liveness, 0, 3.5)
    liveness.set_period(SECOND, at(3.5))
    assert ticked_to(liveness, 3.5, 16) == [(15.5, A)]


def test_a_removed_node_is_forgotten() -> None:
    liveness = Liveness(PERIOD, at(0))
    liveness.heard(A, at(0))
    liveness.await_hello([B], at(0))
    liveness.forget(A)
    liveness.forget(B)
    assert ticked_to(liveness, 0, 30) == []


def test_small_fleets_beat_at_the_period_asked_for() -> None:
    assert heartbeat_period(SECOND, 2_000) == SECOND
    assert heartbeat_period(SECOND // 10, 100) == SECOND // 10


@given(st.integers(0, 20_000))
def test_prop_the_fleet_sends_no_more_than_the_limit(nodes: int) -> None:
    period = heartbeat_period(SECOND, nodes)
    assert SECOND <= period <= HEARTBEAT_PERIOD_MAX
    assert nodes * SECOND <= HEARTBEATS_PER_SECOND * period


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, DEAF_AFTER)), max_size=60),
)
def test_prop_nobody_is_called_down_before_its_timeout(beats: list[tuple[str, int]]) -> None:
    liveness = Liveness(PERIOD, at(0))
    now = at(0)
    last: dict[NodeId, Instant] = {}
    for name, pause in beats:
        now = Instant(now + pause)
        for node_id in liveness.expired(now):
            assert now - last.pop(node_id) >= 3 * PERIOD
        node_id = NodeId(name)
        liveness.heard(node_id, now)
        last[node_id] = now


def test_a_large_fleet_gets_the_time_that_its_hellos_take() -> None:
    liveness = Liveness(PERIOD, at(0))
    liveness.await_hello([NodeId(f"n{n}") for n in range(4 * HELLOS_PER_SECOND)], at(0))
    assert liveness.next_deadline() == at(LEADER_GRACE / SECOND + 4)


def test_a_lost_fleet_is_called_down_in_parts_that_leave_the_lease_its_turn() -> None:
    liveness = Liveness(PERIOD, at(0))
    for number in range(2 * VERDICTS_AT_ONCE + 1):
        liveness.heard(NodeId(f"n{number}"), at(0))
    ticked_to(liveness, 0, 2.5)
    sizes = []
    while liveness.next_deadline() <= at(3):
        sizes.append(len(liveness.expired(at(3))))
    assert sizes == [VERDICTS_AT_ONCE, VERDICTS_AT_ONCE, 1]
