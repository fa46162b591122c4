"""Programs that wait for a client before they start."""

import asyncio

from agent.runtime.running.attachments import Attachments
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.ids import TaskId

TASK = TaskId("t1")


class _Clock:
    def now(self) -> Instant:
        return Instant(100 * SECOND)


async def test_it_starts_with_the_first_client() -> None:
    attachments = Attachments(_Clock())
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(attachments.until(TASK, Instant(10_000 * SECOND)))
        await asyncio.sleep(0)
        with attachments.attached(TaskId("t2")):
            await asyncio.sleep(0)
            assert not waiting.done()
        with attachments.attached(TASK):
            await waiting


async def test_a_client_that_came_first_is_not_waited_for() -> None:
    attachments = Attachments(_Clock())
    with attachments.attached(TASK):
        await attachments.until(TASK, Instant(10_000 * SECOND))


async def test_a_time_that_has_passed_is_not_waited_for() -> None:
    attachments = Attachments(SystemClock())
    await attachments.until(TASK, Instant(0))
    await attachments.until(TASK, SystemClock().now())


def test_a_program_waits_for_a_client_a_minute_at_most() -> None:
    attachments = Attachments(_Clock())
    assert attachments._left_s(Instant(10_000 * SECOND)) == 60
    assert attachments._left_s(Instant(101 * SECOND)) == 1
