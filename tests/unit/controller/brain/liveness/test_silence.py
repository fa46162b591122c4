"""An agent that misses a heartbeat is judged by its host's answers; a verdict needs silence that we
were awake to hear.
"""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.brain.liveness.silence import (
    AT_ONCE,
    DEAF_AFTER,
    LATE_WINDOWS,
    TICK_PERIOD,
    WINDOWS_OF_A_LIVING_HOST,
    Liveness,
    heartbeat_period,
    probe_window,
)
from pyswarm_core.clock import MILLISECOND, SECOND, Instant
from pyswarm_core.ids import NodeId
from pyswarm_core.limits import (
    DOWN_PER_MINUTE_MIN,
    HEARTBEAT_PERIOD_MAX,
    HEARTBEATS_PER_SECOND,
    HELLOS_PER_SECOND,
    LEADER_GRACE,
    PROBED_AT_ONCE,
    PROBERS,
)

PERIOD = SECOND
GRACE = 15 * SECOND
ROUND_TRIP = MILLISECOND


def at(seconds: float) -> Instant:
    return Instant(int(seconds * SECOND))


class Fleet:
    """Agents that beat and hosts that answer, for a `Liveness` that is ticked as the loop does."""

    def __init__(self, names: Iterable[str] = "abcd", period: int = PERIOD) -> None:
        self.empty: set[NodeId] = set()
        self.liveness = Liveness(period, GRACE, at(0), is_empty=self.empty.__contains__)
        self.names = [NodeId(name) for name in names]
        self.now = at(0)
        self.beating = set(self.names)
        self.answering = set(self.names)
        self.can_probe = True
        self.runs = True
        self.probes: list[NodeId] = []
        self.down: list[tuple[Any, NodeId]] = []
        self.disconnected: list[tuple[Any, NodeId]] = []
        self.held: list[tuple[Any, NodeId]] = []
        self._beat_at = at(0)
        self._ticked = at(0)
        self._answers: list[tuple[Instant, NodeId]] = []
        self._unread: list[NodeId] = []

    def run(self, until: float) -> None:
        """Let time pass."""
        while True:
            steps = [self._beat_at, *(due for due, _ in self._answers)]
            if self.runs:
                due = max(self.liveness.next_deadline(), self._ticked + 1)
                steps.append(Instant(min(due, self._ticked + TICK_PERIOD)))
            step = max(min(steps), self.now)
            if step > at(until):
                self.now = at(until)
                return
            self.now = step
            self._step()

    def pause(self, until: float) -> None:
        """The controller does not run; what reaches it is read as soon as it runs again."""
        self.runs = False
        self.run(until)
        self.runs = True
        for node_id in self._unread:
            self.liveness.heard(node_id, self.now)
        self._unread.clear()

    def stop(self, name: str, *, host: bool) -> None:
        """The agent is silent from now on, and its host with it or not."""
        self.beating.discard(NodeId(name))
        if host:
            self.answering.discard(NodeId(name))

    def _step(self) -> None:
        answers = [pair for pair in self._answers if pair[0] <= self.now]
        self._answers = [pair for pair in self._answers if pair[0] > self.now]
        for _, node_id in answers:
            if self.liveness.answered(node_id, self.now):
                self.disconnected.append((self.now / SECOND, node_id))
        if self._beat_at <= self.now:
            self._beat_at = Instant(self._beat_at + self.liveness.period)
            for node_id in self.names:
                if node_id in self.beating and self.runs:
                    self.liveness.heard(node_id, self.now)
                elif node_id in self.beating:
                    self._unread.append(node_id)
        if self.runs:
            self._tick()

    def _tick(self) -> None:
        self._ticked = self.now
        tick = self.liveness.tick(self.now)
        for probe in tick.probes:
            assert probe.node_id not in probe.agents
            self.probes.append(probe.node_id)
            if self.can_probe:
                self.liveness.tried(probe.node_id)
                if probe.node_id in self.answering:
                    self._answers.append((Instant(self.now + ROUND_TRIP), probe.node_id))
        self.down += [(self.now / SECOND, node_id) for node_id in tick.down]
        self.held += [(self.now / SECOND, node_id) for node_id in tick.held]


def _has_tasks(_: NodeId) -> bool:
    return False


A = NodeId("a")


def test_a_dead_host_is_down_within_one_and_a_half_periods() -> None:
    fleet = Fleet()
    fleet.run(5)
    fleet.stop("a", host=True)
    fleet.run(10)
    assert fleet.down == [(pytest.approx(6.4), A)]
    assert fleet.disconnected == []


@pytest.mark.parametrize("period", [SECOND, 2 * SECOND, 5 * SECOND, 10 * SECOND])
def test_that_holds_for_every_period(period: int) -> None:
    fleet = Fleet(period=period)
    fleet.run(12)
    last = fleet._beat_at - period
    fleet.stop("a", host=True)
    fleet.run(60)
    ((when, node_id),) = fleet.down
    assert node_id == A
    assert when * SECOND - last <= 1.5 * period


def test_a_silent_agent_whose_host_answers_is_disconnected_and_ready_when_heard() -> None:
    fleet = Fleet()
    fleet.run(5)
    fleet.stop("a", host=False)
    fleet.run(15)
    assert fleet.disconnected[0] == (pytest.approx(6.2, abs=0.01), A)
    assert {node_id for _, node_id in fleet.disconnected} == {A}
    fleet.beating.add(A)
    fleet.run(60)
    assert fleet.down == []


def test_it_is_down_when_its_grace_is_over() -> None:
    fleet = Fleet()
    fleet.run(5)
    fleet.stop("a", host=False)
    fleet.run(60)
    assert fleet.down == [(pytest.approx(5 + GRACE / SECOND), A)]


def test_the_grace_is_never_shorter_than_three_periods() -> None:
    fleet = Fleet(period=10 * SECOND)
    fleet.run(15)
    fleet.stop("a", host=False)
    fleet.run(120)
    assert fleet.down == [(pytest.approx(10 + 30), A)]


def test_a_host_that_dies_while_its_agent_is_silent_is_down_at_once() -> None:
    fleet = Fleet()
    fleet.run(5)
    fleet.stop("a", host=False)
    fleet.run(10)
    fleet.stop("a", host=True)
    fleet.run(60)
    ((when, node_id),) = fleet.down
    assert node_id == A
    assert when <= 11.5


def test_a_living_host_may_miss_one_window() -> None:
    fleet = Fleet()
    fleet.run(5)
    fleet.stop("a", host=False)
    fleet.run(8.1)
    fleet.answering.discard(A)
    fleet.run(8.3)  # it was asked once
    fleet.answering.add(A)
    fleet.run(14)
    assert fleet.down == []
    assert WINDOWS_OF_A_LIVING_HOST == 2


def test_a_window_in_which_nobody_could_ask_is_no_sign() -> None:
    fleet = Fleet()
    fleet.run(5)
    fleet.stop("a", host=False)
    fleet.run(7.1)
    fleet.can_probe = False
    fleet.run(7.3)  # a window begins, and nobody asks
    fleet.can_probe = True
    fleet.answering.discard(A)
    fleet.run(7.5)  # one is asked for nothing
    fleet.answering.add(A)
    fleet.run(14)
    assert fleet.down == []


def test_a_host_that_nobody_can_ask_any_more_is_down_when_its_grace_is_over() -> None:
    fleet = Fleet()
    fleet.run(5)
    fleet.stop("a", host=False)
    fleet.run(7.1)
    fleet.can_probe = False
    fleet.run(60)
    ((when, node_id),) = fleet.down
    assert node_id == A
    assert when == pytest.approx(5 + GRACE / SECOND, abs=0.3)


def test_where_echoes_are_filtered_three_missed_heartbeats_are_the_verdict() -> None:
    fleet = Fleet()
    fleet.answering.discard(A)
    fleet.run(5)
    assert fleet.liveness.nodes_filtered == 1
    fleet.stop("a", host=True)
    fleet.run(60)
    assert fleet.down == [(pytest.approx(8), A)]


def test_where_nobody_can_probe_three_missed_heartbeats_are_the_verdict() -> None:
    fleet = Fleet()
    fleet.run(5)
    fleet.can_probe = False
    fleet.stop("a", host=True)
    fleet.run(60)
    assert fleet.down == [(pytest.approx(8), A)]


def test_a_host_that_is_no_longer_filtered_is_asked_again_and_believed() -> None:
    fleet = Fleet()
    fleet.answering.discard(A)
    fleet.run(5)
    fleet.answering.add(A)
    fleet.run(30)
    assert fleet.liveness.nodes_filtered == 0
    fleet.stop("a", host=True)
    fleet.run(60)
    assert fleet.down == [(pytest.approx(31.4), A)]


def test_a_host_that_dies_while_it_is_asked_does_not_count_as_filtered() -> None:
    fleet = Fleet()
    fleet.run(60.9)
    fleet.stop("a", host=True)  # the minute's echo is on its way to a dead host
    fleet.run(70)
    assert fleet.liveness.nodes_filtered == 0
    assert fleet.down == [(pytest.approx(61.4), A)]


def test_a_healthy_host_is_asked_about_once_a_minute() -> None:
    fleet = Fleet("a")
    fleet.run(600)
    assert 9 <= len(fleet.probes) <= 11


def test_asking_a_large_fleet_costs_so_much_a_second() -> None:
    fleet = Fleet(f"n{number}" for number in range(640))
    fleet.run(5)
    assert len(fleet.probes) == 5 * 64 + 16  # one batch at once, then 16 in each quarter second


@pytest.mark.parametrize("pause", [0.3, 0.7, 1.0, 1.6, 5.0, 60.0])
def test_a_controller_that_did_not_run_calls_nobody_down_or_disconnected(pause: float) -> None:
    fleet = Fleet()
    fleet.run(5.5)
    fleet.pause(5.5 + pause)
    fleet.run(5.5 + pause + 30)
    assert fleet.down == []


def test_after_our_own_pause_everyone_gets_a_full_timeout() -> None:
    fleet = Fleet()
    fleet.run(5)
    fleet.stop("a", host=True)
    fleet.pause(60)
    fleet.run(61.1)
    assert fleet.down == []
    fleet.run(70)
    assert fleet.down == [(pytest.approx(61.4), A)]


def test_a_window_that_is_judged_late_is_opened_again_but_not_for_ever() -> None:
    liveness = Liveness(PERIOD, GRACE, at(0), is_empty=_has_tasks)
    liveness.heard(A, at(0))
    liveness.tick(at(0))
    liveness.answered(A, at(0))
    late = probe_window(PERIOD) // 2 + MILLISECOND
    now, rounds, down = at(0), 0, False
    while not down and rounds < 20:
        now = Instant(min(now + TICK_PERIOD, liveness.next_deadline() + late))
        tick = liveness.tick(now)
        rounds += bool(tick.probes)
        liveness.tried(A)
        down = bool(tick.down)
    assert rounds == 1 + LATE_WINDOWS


def test_a_new_leader_gives_every_node_its_grace() -> None:
    fleet = Fleet()
    fleet.stop("a", host=True)
    fleet.stop("b", host=False)
    fleet.liveness.await_hello(fleet.names, at(0))
    grace = LEADER_GRACE / SECOND
    fleet.run(grace - 0.1)
    assert fleet.down == fleet.disconnected == []
    fleet.run(60)
    assert fleet.down == [
        (pytest.approx(grace + 0.2), A),
        (pytest.approx(grace + GRACE / SECOND), NodeId("b")),
    ]
    assert fleet.disconnected[0] == (pytest.approx(grace, abs=0.01), NodeId("b"))


def test_a_large_fleet_gets_the_time_that_its_hellos_take() -> None:
    liveness = Liveness(PERIOD, GRACE, at(0), is_empty=_has_tasks)
    liveness.await_hello([NodeId(f"n{n}") for n in range(4 * HELLOS_PER_SECOND)], at(0))
    assert liveness.next_deadline() == at(LEADER_GRACE / SECOND + 4)


def test_of_many_silent_nodes_so_many_are_called_down_per_minute() -> None:
    fleet = Fleet("abcdefgh")
    fleet.run(5)
    for name in "abcdef":
        fleet.stop(name, host=True)
    fleet.run(30)
    assert len(fleet.down) == DOWN_PER_MINUTE_MIN
    assert len({node_id for _, node_id in fleet.held}) == 3
    assert fleet.liveness.nodes_held == 3
    fleet.run(100)
    assert len(fleet.down) == 6
    assert fleet.liveness.nodes_held == 0


def test_nodes_without_tasks_hold_nobody_back() -> None:
    fleet = Fleet("abcdefgh")
    fleet.empty.update(map(NodeId, "abcde"))
    fleet.run(5)
    for name in "abcde":
        fleet.stop(name, host=True)
    fleet.run(10)
    for name in "fgh":
        fleet.stop(name, host=True)
    fleet.run(15)
    assert [node_id for _, node_id in fleet.down] == list("abcdefgh")
    assert fleet.held == []


def test_who_is_heard_again_leaves_room_for_the_next() -> None:
    fleet = Fleet("abcdefgh")
    fleet.run(5)
    for name in "abc":
        fleet.stop(name, host=True)
    fleet.run(10)
    fleet.beating.update(fleet.names)
    fleet.answering.update(fleet.names)
    fleet.run(15)
    fleet.stop("d", host=True)
    fleet.run(20)
    assert fleet.down[-1] == (pytest.approx(16.4), NodeId("d"))


def test_a_tenth_of_a_large_fleet_is_called_down_at_once() -> None:
    fleet = Fleet(f"n{number}" for number in range(200))
    fleet.run(10)
    for number in range(20):
        fleet.stop(f"n{number}", host=True)
    fleet.run(12)
    assert len(fleet.down) == 20
    assert fleet.held == []


def test_who_is_held_back_and_returns_is_no_longer_counted() -> None:
    fleet = Fleet("abcdefgh")
    fleet.run(5)
    for name in "abcdef":
        fleet.stop(name, host=True)
    fleet.run(30)
    fleet.beating.update(fleet.names)
    fleet.run(120)
    assert fleet.liveness.nodes_held == 0
    assert len(fleet.down) == DOWN_PER_MINUTE_MIN


def test_a_silent_fleet_is_judged_in_parts_that_leave_the_lease_its_turn() -> None:
    liveness = Liveness(PERIOD, GRACE, at(0), is_empty=_has_tasks)
    for number in range(2 * AT_ONCE + 1):
        liveness.heard(NodeId(f"n{number}"), at(0))
    for quarter in range(1, 5):
        liveness.tick(at(quarter / 4))
    silent, probes = [], 0
    for _ in range(4):
        before = len(liveness._silent)
        probes += len(liveness.tick(at(1.2)).probes)
        silent.append(len(liveness._silent) - before)
    assert silent == [AT_ONCE, AT_ONCE, 1, 0]
    assert PROBED_AT_ONCE <= probes <= PROBED_AT_ONCE + 4 * 16


def test_probes_name_agents_that_were_heard_lately_and_each_time_others() -> None:
    liveness = Liveness(PERIOD, GRACE, at(0), is_empty=_has_tasks)
    for number in range(100):
        liveness.heard(NodeId(f"n{number}"), at(0))
    liveness.heard(NodeId("n0"), at(0.5))
    named = [liveness._others(NodeId("n1")) for _ in range(8)]
    assert len(set(named)) == 8
    assert all(len(agents) >= PROBERS for agents in named)
    assert any(NodeId("n0") in agents for agents in named)


def test_a_shorter_period_is_lenient_towards_beats_sent_at_the_old_one() -> None:
    fleet = Fleet(period=4 * SECOND)
    fleet.run(3.5)
    fleet.stop("a", host=True)
    fleet.liveness.set_period(SECOND, at(3.5))
    fleet.run(15.4)
    assert fleet.down == []
    fleet.run(20)
    assert [node_id for _, node_id in fleet.down] == [A]


def test_a_removed_node_is_forgotten() -> None:
    fleet = Fleet("ab")
    fleet.run(5)
    fleet.stop("a", host=False)
    fleet.stop("b", host=True)
    fleet.run(6.3)
    for name in fleet.names:
        fleet.liveness.forget(name)
    fleet.run(60)
    assert fleet.down == []


def test_small_fleets_beat_at_the_configured_period() -> None:
    assert heartbeat_period(SECOND, 2_000) == SECOND
    assert heartbeat_period(SECOND, 10_000) == 5 * SECOND
    assert heartbeat_period(SECOND // 10, 100) == SECOND // 10


@given(st.integers(0, 20_000))
def test_prop_the_fleet_sends_no_more_than_the_limit(nodes: int) -> None:
    period = heartbeat_period(SECOND, nodes)
    assert SECOND <= period <= HEARTBEAT_PERIOD_MAX
    assert nodes * SECOND <= HEARTBEATS_PER_SECOND * period


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(0, DEAF_AFTER), st.booleans()), max_size=60
    ),
)
def test_prop_nobody_is_called_down_before_a_missed_heartbeat_and_a_window(
    events: list[tuple[str, int, bool]],
) -> None:
    liveness = Liveness(PERIOD, GRACE, at(0), is_empty=_has_tasks)
    now = at(0)
    last: dict[NodeId, Instant] = {}
    for name, pause, answers in events:
        now = Instant(now + pause)
        tick = liveness.tick(now)
        for node_id in tick.down:
            assert now - last.pop(node_id) >= PERIOD + 2 * probe_window(PERIOD)
        for probe in tick.probes:
            liveness.tried(probe.node_id)
            if answers:
                liveness.answered(probe.node_id, now)
        node_id = NodeId(name)
        liveness.heard(node_id, now)
        last[node_id] = now
