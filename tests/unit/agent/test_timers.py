"""Deadlines: set, replaced, taken away, and kept though the host's clock is set."""

import asyncio
import time

import pytest

from agent.timers import Timers
from pyswarm_core.aio.system import UnsteppedClock
from pyswarm_core.clock import HOUR, NEVER, Instant
from pyswarm_core.ids import TaskId


async def test_only_the_last_deadline_of_a_task_rings() -> None:
    clock, rung = UnsteppedClock(), list[TaskId]()
    timers: Timers[TaskId] = Timers(clock)
    both = asyncio.Event()

    def ring(task_id: TaskId) -> None:
        rung.append(task_id)
        if len(rung) == 2:
            both.set()

    now = clock.now()
    for task_id, at in (("a", now), ("a", NEVER), ("b", now + HOUR), ("b", now), ("c", now + 1)):
        timers.set(TaskId(task_id), Instant(at))
    timers.set(TaskId("c"), Instant(now + 1))
    running = asyncio.create_task(timers.run(ring))
    await both.wait()
    running.cancel()
    assert rung == ["b", "c"]


def test_setting_the_hosts_clock_moves_no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = UnsteppedClock()
    before = clock.now()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert clock.now() >= before


async def test_a_deadline_whose_callback_fails_ends_the_timers() -> None:
    def fail(task_id: TaskId) -> None:
        raise ValueError(task_id)

    clock = UnsteppedClock()
    timers: Timers[TaskId] = Timers(clock)
    running = asyncio.create_task(timers.run(fail))
    await asyncio.sleep(0)
    timers.set(TaskId("a"), clock.now())
    with pytest.raises(ValueError, match="a"):
        await running


async def test_a_callback_may_set_its_deadline_again() -> None:
    clock = UnsteppedClock()
    timers: Timers[TaskId] = Timers(clock)
    rung: list[TaskId] = []
    thrice = asyncio.Event()

    def again(task_id: TaskId) -> None:
        rung.append(task_id)
        timers.set(task_id, Instant(clock.now() + 1))
        if len(rung) == 3:
            thrice.set()

    running = asyncio.create_task(timers.run(again))
    timers.set(TaskId("a"), clock.now())
    await thrice.wait()
    running.cancel()
    assert set(rung) == {"a"}
