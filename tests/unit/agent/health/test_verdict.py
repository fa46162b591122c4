"""The rules of a check: those of moby's daemon/health.go."""

from msgspec.structs import replace

from agent.health.verdict import Check, begun, bounded, judged, returned, tolerance
from pyswarm_core.clock import HOUR, SECOND, Instant
from pyswarm_core.ids import TaskId
from pyswarm_core.limits import CHECK_RESULTS
from pyswarm_core.objects import HealthState
from pyswarm_core.specs import HealthConfig
from pyswarm_core.views import CheckResult

START = Instant(1_000 * SECOND)
STARTING, HEALTHY, UNHEALTHY = HealthState.STARTING, HealthState.HEALTHY, HealthState.UNHEALTHY


def check(start_period: int = 0, retries: int = 3) -> Check:
    config = HealthConfig(
        test=("CMD", "x"),
        interval=10 * SECOND,
        timeout=SECOND,
        start_period=start_period,
        start_interval=2 * SECOND,
        retries=retries,
    )
    return begun(Check(config=config), START)


def result(at_s: float, code: int = 1, output: str = "", duration: int = 0) -> CheckResult:
    started_at = Instant(START + int(at_s * SECOND))
    return CheckResult(started_at=started_at, duration=duration, exit_code=code, output=output)


def after(taken: Check, *results: CheckResult) -> Check:
    for one in results:
        taken = judged(taken, one, START)
    return taken


def test_the_first_check_is_due_an_interval_after_the_start() -> None:
    assert check().due_at == START + 10 * SECOND
    assert check(start_period=SECOND).due_at == START + 2 * SECOND


def test_the_next_check_is_due_an_interval_after_the_end_of_the_last() -> None:
    taken = after(check(), result(10, duration=3 * SECOND))
    assert taken.due_at == START + 23 * SECOND


def test_a_success_makes_it_healthy_and_ends_the_streak() -> None:
    taken = after(check(), result(10), result(20), result(30, 0))
    assert (taken.state, taken.failing_streak) == (HEALTHY, 0)
    assert after(taken, result(40), result(50)).state is HEALTHY


def test_so_many_failures_in_a_row_make_it_unhealthy() -> None:
    taken = after(check(), result(10), result(20, 7))
    assert (taken.state, taken.failing_streak) == (STARTING, 2)
    assert after(taken, result(30, -1)).state is UNHEALTHY
    healthy = after(check(), result(10, 0))
    assert after(healthy, result(20), result(30), result(40)).state is UNHEALTHY
    assert after(check(retries=1), result(10)).state is UNHEALTHY


def test_failures_within_the_start_period_do_not_count() -> None:
    taken = after(check(start_period=10 * SECOND), *(result(at) for at in (2, 4, 6, 8, 9.9)))
    assert (taken.state, taken.failing_streak) == (STARTING, 0)
    assert after(taken, result(10), result(20), result(30)).state is UNHEALTHY


def test_a_clock_that_was_set_back_does_not_prolong_the_start_period() -> None:
    before = result(-3600)
    taken = after(check(start_period=10 * SECOND, retries=2), before)
    assert (taken.failing_streak, taken.due_at - before.started_at) == (1, 10 * SECOND)
    assert after(taken, result(-3590)).state is UNHEALTHY


def test_a_result_that_does_not_count_is_kept_and_changes_nothing_else() -> None:
    failing = after(check(), result(10), result(20))
    taken = judged(failing, result(30, -1, "too many open files"), START, counts=False)
    assert (taken.state, taken.failing_streak, taken.made) == (STARTING, 2, 3)
    assert taken.results[-1].output == "too many open files"
    assert taken.due_at == START + 40 * SECOND


def test_connections_may_be_made_a_little_later_and_commands_not() -> None:
    command = check()
    tcp = replace(command, config=replace(command.config, test=("TCP", "80")))
    assert tolerance(command) == 0
    assert tolerance(tcp) == 2 * SECOND // 20, "starting: of the start interval"
    assert tolerance(replace(tcp, state=HEALTHY)) == SECOND // 4
    short = replace(tcp, state=HEALTHY, config=replace(tcp.config, interval=SECOND))
    assert tolerance(short) == SECOND // 20


def test_the_first_success_ends_the_start_period() -> None:
    healthy = after(check(start_period=HOUR), result(2, 0))
    assert healthy.state is HEALTHY
    assert healthy.due_at == START + 12 * SECOND, "no longer the start interval"
    assert after(healthy, result(12), result(22), result(32)).state is UNHEALTHY


def test_the_start_interval_holds_within_the_start_period() -> None:
    taken = after(check(start_period=10 * SECOND), result(2))
    assert taken.due_at == START + 4 * SECOND
    assert after(taken, result(10)).due_at == START + 20 * SECOND


def test_the_last_results_are_kept() -> None:
    assert CHECK_RESULTS == 5
    taken = after(check(), *(result(10 * n, output=str(n)) for n in range(1, 8)))
    assert [one.output for one in taken.results] == ["3", "4", "5", "6", "7"]
    assert taken.last_output == "7"


def test_overdue_checks_are_spread_when_an_agent_returns() -> None:
    now = Instant(START + HOUR)
    dues = {returned(check(), TaskId(f"t{n}"), now).due_at for n in range(100)}
    assert len(dues) > 80
    assert all(now <= due < now + SECOND for due in dues), "a tenth of the interval"
    later = replace(check(), due_at=Instant(now + HOUR))
    assert returned(later, TaskId("t"), now) == later, "not overdue"


def test_a_clock_that_was_set_back_delays_no_check_by_more_than_its_interval() -> None:
    back = Instant(START - HOUR)
    assert bounded(check(), back).due_at == back + 10 * SECOND
    assert bounded(check(), START) is not None
    assert bounded(check(), START) == check()
