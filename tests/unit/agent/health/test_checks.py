"""Checks are made when they are due, a bounded number at once, and end when they are not wanted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agent.health.base import Due, Outcome, Target
from agent.health.checks import Checks
from agent.health.verdict import CheckKind
from agent.timers import Timers
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.clock import HOUR, Instant
from pyswarm_core.ids import TaskId
from pyswarm_core.limits import CHECKS_AT_ONCE, CONNECTIONS_AT_ONCE
from pyswarm_core.specs import HealthConfig
from pyswarm_core.views import CheckResult

CONFIG = HealthConfig(test=("CMD", "x"))
HEALTH = CheckKind.HEALTH
T1 = TaskId("t1")


class World:
    """Tasks whose checks are made until the test lets them end."""

    def __init__(self) -> None:
        self.begun: list[TaskId] = []
        self.cancelled: list[TaskId] = []
        self.results: list[tuple[TaskId, CheckResult]] = []
        self.observed: list[tuple[str, int]] = []
        self.may_end = asyncio.Event()
        self.changed = asyncio.Event()
        self.checks = Checks(SystemClock(), self.probe, self.report, self)

    async def probe(self, target: Target, config: HealthConfig) -> Outcome:
        self.begun.append(target.task_id)
        self.changed.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled.append(target.task_id)
            self.changed.set()
            raise
        return Outcome(3, "no")

    def report(self, task_id: TaskId, kind: CheckKind, result: CheckResult, counts: bool) -> None:
        assert counts
        self.results.append((task_id, result))
        self.changed.set()

    def checked(self, kind: str, outcome: Outcome, duration_s: float) -> None:
        self.observed.append((kind, outcome.exit_code))

    def due(self, task_id: TaskId = T1, at: int = 0, config: HealthConfig = CONFIG) -> None:
        self.checks.set(task_id, HEALTH, Due(Instant(at), config, Target(task_id, 7)))

    async def until(
        self, count: int, what: list[TaskId] | list[tuple[TaskId, CheckResult]]
    ) -> None:
        while len(what) < count:
            self.changed.clear()
            await self.changed.wait()


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    made = World()
    running = asyncio.create_task(made.checks.run())
    await asyncio.sleep(0)
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_check_that_is_due_is_made_once_and_reported() -> None:
    async with world() as w:
        w.due()
        await w.until(1, w.begun)
        w.due()
        w.may_end.set()
        await w.until(1, w.results)
        ((task_id, result),) = w.results
        assert (task_id, result.exit_code, result.output) == (T1, 3, "no")
        assert result.duration >= 0
        assert w.observed == [("CMD", 3)]
        assert w.begun == [T1], "not twice at once"


async def test_the_next_check_is_made_when_the_report_says() -> None:
    async with world() as w:
        w.may_end.set()
        w.due()
        for count in range(1, 4):
            await w.until(count, w.results)
            w.due()
        w.due(at=SystemClock().now() + HOUR)
        assert len(w.begun) <= 4


async def test_a_check_that_is_not_wanted_any_more_is_cancelled_and_reports_nothing() -> None:
    async with world() as w:
        w.due()
        await w.until(1, w.begun)
        w.checks.set(T1, HEALTH, None)
        await w.until(1, w.cancelled)
        w.may_end.set()
        w.due(TaskId("t2"))
        await w.until(1, w.results)
        assert [task_id for task_id, _ in w.results] == ["t2"]


async def test_a_check_that_is_cancelled_and_due_again_is_made_again() -> None:
    async with world() as w:
        w.due()
        await w.until(1, w.begun)
        w.checks.set(T1, HEALTH, None)
        w.due()
        w.may_end.set()
        await w.until(1, w.results)
        assert w.begun == [T1, T1]


async def test_a_bounded_number_of_checks_is_made_at_once() -> None:
    assert CHECKS_AT_ONCE == 64
    async with world() as w:
        for number in range(100):
            w.due(TaskId(f"t{number}"))
        await w.until(64, w.begun)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(w.begun) == 64
        w.may_end.set()
        await w.until(100, w.results)


async def test_a_bounded_number_of_connections_is_made_at_once() -> None:
    assert CONNECTIONS_AT_ONCE == 512
    async with world() as w:
        for number in range(600):
            w.due(TaskId(f"t{number}"), config=HealthConfig(test=("TCP", "80")))
        await w.until(512, w.begun)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(w.begun) == 512
        w.due(TaskId("command"))
        await w.until(513, w.begun)
        assert w.begun[-1] == "command", "connections that take long delay no command"
        w.may_end.set()
        await w.until(601, w.results)


async def test_a_check_that_is_cancelled_twice_is_interrupted_once() -> None:
    cancelled = list[str]()
    begun, ended = asyncio.Event(), asyncio.Event()

    async def probe(target: Target, config: HealthConfig) -> Outcome:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append("first")
            try:
                for _ in range(5):  # the end of the command's processes
                    await asyncio.sleep(0)
            except asyncio.CancelledError:
                cancelled.append("second")
            ended.set()
            raise
        return Outcome(0, "")

    async with world() as w:
        checks = Checks(SystemClock(), probe, w.report)
        running = asyncio.create_task(checks.run())
        await asyncio.sleep(0)
        checks.set(T1, HEALTH, Due(Instant(0), CONFIG, Target(T1, 7)))
        await begun.wait()
        checks.set(T1, HEALTH, None)
        await asyncio.sleep(0)
        checks.set(T1, HEALTH, None)
        await ended.wait()
        running.cancel()
        await asyncio.wait([running])
    assert cancelled == ["first"]


async def test_checks_with_a_tolerance_are_made_together(monkeypatch: pytest.MonkeyPatch) -> None:
    set_: dict[object, int] = {}
    monkeypatch.setattr(Timers, "set", lambda _, key, at: set_.update({key[0]: at}))
    checks = World().checks
    for number, tolerance in enumerate((0, 100, 100, 100)):
        due = Due(Instant(1001 + 90 * number), CONFIG, Target(T1, 7), tolerance)
        checks.set(TaskId(f"t{number}"), HEALTH, due)
    assert list(set_.values()) == [1001, 1100, 1200, 1300]


async def test_kinds_of_one_task_are_independent() -> None:
    async with world() as w:
        w.due()
        w.checks.set(T1, CheckKind.READINESS, Due(Instant(0), CONFIG, Target(T1, 7)))
        await w.until(2, w.begun)
        w.checks.set(T1, HEALTH, None)
        await w.until(1, w.cancelled)
        w.may_end.set()
        await w.until(1, w.results)
        assert len(w.results) == 1


@pytest.mark.parametrize("at", [0, 1])
async def test_nothing_is_made_before_it_is_due(at: int) -> None:
    async with world() as w:
        w.due(at=SystemClock().now() + HOUR)
        w.due(TaskId("t2"), at)
        await w.until(1, w.begun)
        assert w.begun == ["t2"]
